// wmma m16n16k16 of int8, as Xavier has it. Which lane holds which element is the hardware's secret,
// so fragments here are rotated by some lanes: a kernel that relies on an order computes nonsense.
#pragma once

namespace emulator {

inline u32 fragment_lane() { return (emulator_thread->lane + FRAGMENT_ROTATION) & 31; }

// Lane l holds 8 elements of row (a) or column (b) l / 2, from 8 * (l % 2) on.
inline void load_fragment(u32 (&fragment)[2], const void* from, int pitch) {
  if ((size_t)from % 16 || pitch % 16)
    emulator_fail("wmma.load: the address or the pitch is no multiple of 16 bytes");
  const u32 lane = fragment_lane();
  emulator_warp("wmma.load", nullptr);
  __builtin_memcpy(fragment, (const i8*)from + (lane / 2) * pitch + 8 * (lane % 2), 8);
}

}  // namespace emulator

static inline void eq_wmma_load_a(u32 (&a)[2], const void* from, int pitch) {
  emulator::load_fragment(a, from, pitch);
}
static inline void eq_wmma_load_b(u32 (&b)[2], const void* from, int pitch) {
  emulator::load_fragment(b, from, pitch);
}
static inline void eq_wmma_mma(int (&c)[8], const u32 (&a)[2], const u32 (&b)[2]) {
  u32 words[12] = {a[0], a[1], b[0], b[1]};
  __builtin_memcpy(words + 4, c, 32);
  emulator::collective<12, 8>("wmma.mma", emulator::multiply_161616, words, c);
}
// Row-major; pitch in ints.
static inline void eq_wmma_store_c(int* to, const int (&c)[8], int pitch) {
  if ((size_t)to % 16 || pitch % 4)
    emulator::emulator_fail("wmma.store: the address or the pitch is no multiple of 16 bytes");
  const u32 lane = emulator::fragment_lane();
  emulator::emulator_warp("wmma.store", nullptr);
  __builtin_memcpy(to + (lane / 2) * pitch + 8 * (lane % 2), c, 32);
}
