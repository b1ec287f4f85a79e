// Where the bytes of a convolution's implicit matrix lie. Its rows are the pixels of y; its columns
// are what each of them sees, in groups of UNIT bytes (4, 8 or 16) that lie together in x: X_CP / UNIT
// groups a tap of the window, taps row by row, zero weights after the last up to whole steps of BK
// bytes. (Precomputed offsets of an implicit GEMM, as in cuDNN's IMPLICIT_PRECOMP_GEMM: nothing is
// divided in a kernel's loop.)
//
// X_CP >= X_C channels of x are read: where it is more, weights are zero and x has the room.
// A window has at most 15 rows and columns: a group carries a bit for each, a pixel the bits of those
// that lie inside x; what lies outside is read from a page of UNIT bytes of x's zero point.

#define EQ_TAP_GROUPS (EQ_X_CP / EQ_UNIT)
#define EQ_GROUPS (EQ_KH * EQ_KW * EQ_TAP_GROUPS)
#define EQ_STEP_GROUPS (EQ_BK / EQ_UNIT)
#define EQ_STEPS ((EQ_GROUPS + EQ_STEP_GROUPS - 1) / EQ_STEP_GROUPS)
#define EQ_IS_POINTWISE (EQ_KH * EQ_KW == 1 && !EQ_IS_PADDED)

// A thread takes one of a step's groups, of the rows thread / STEP_GROUPS + i * A_ROWS.
#define EQ_A_ROWS (EQ_THREADS / EQ_STEP_GROUPS)
#define EQ_A_LOADS ((EQ_BM + EQ_A_ROWS - 1) / EQ_A_ROWS)
// The weights of a step lie together: a thread takes 16 bytes at thread + i * THREADS.
#define EQ_B_CHUNKS (EQ_BN * EQ_BK / 16)
#define EQ_B_LOADS ((EQ_B_CHUNKS + EQ_THREADS - 1) / EQ_THREADS)

struct eq_Group {
  int offset;  // from a window's first byte
  u32 bits;    // of its row, and of its column from bit 16 on
};

struct eq_Window {
  const i8* first;  // its upper left byte, inside x or not
  u32 inside;       // the bits of rows and columns inside x
};

EQ_DEV eq_Group eq_group(int index) {
  const int tap = index / EQ_TAP_GROUPS, c = index % EQ_TAP_GROUPS * EQ_UNIT;
  const int i = tap / EQ_KW, j = tap % EQ_KW;
  eq_Group group = {(i * EQ_DILATION_H * EQ_X_W + j * EQ_DILATION_W) * EQ_X_PITCH + c,
                    (1u << i) | (65536u << j)};
  // Beyond the last: never inside, and where nothing is checked any byte of x will do.
  if (EQ_GROUPS % EQ_STEP_GROUPS && index >= EQ_GROUPS) group = {0, 1u << 15};
  return group;
}

// The bits of a window's positions first, first + step, ... that lie in [0, size).
EQ_DEV u32 eq_positions(int first, int step, int count, int size) {
  if (step == 1) {
    const int from = eq_clamp(-first, 0, count), to = eq_clamp(size - first, 0, count);
    return ((1u << to) - 1) & ~((1u << from) - 1);
  }
  u32 bits = 0;
  for (int i = 0; i < count; i++)
    if ((u32)(first + i * step) < (u32)size) bits |= 1u << i;
  return bits;
}

// The window of pixel m; beyond the last pixel the last one's, whose result is not stored.
EQ_DEV eq_Window eq_window(const i8* __restrict__ x, int m) {
  m = min(m, EQ_PIXELS - 1);
  if (EQ_IS_POINTWISE && EQ_STRIDE_H == 1 && EQ_STRIDE_W == 1) return {x + m * EQ_X_PITCH, ~0u};
  const int image = EQ_PIXELS > EQ_Y_H * EQ_Y_W ? m / (EQ_Y_H * EQ_Y_W) : 0;
  const int top = (m / EQ_Y_W - image * EQ_Y_H) * EQ_STRIDE_H - EQ_BEFORE_H;
  const int left = m % EQ_Y_W * EQ_STRIDE_W - EQ_BEFORE_W;
  const int pixel = (image * EQ_X_H + top) * EQ_X_W + left;
  u32 inside = ~0u;
  if (EQ_IS_PADDED)
    inside = eq_positions(top, EQ_DILATION_H, EQ_KH, EQ_X_H) |
             eq_positions(left, EQ_DILATION_W, EQ_KW, EQ_X_W) << 16;
  return {x + pixel * EQ_X_PITCH, inside};
}

// Where a group of a window lies.
EQ_DEV const i8* eq_source(eq_Window window, eq_Group group, const i8* __restrict__ outside) {
  const bool inside = !EQ_IS_PADDED || (window.inside & group.bits) == group.bits;
  return inside ? window.first + group.offset : outside;
}

// All groups are worked out once, into shared memory, but for 1 x 1 windows, which need no table.
#if EQ_IS_POINTWISE
#define EQ_TABLE_GROUPS 1
EQ_DEV void eq_fill_groups(eq_Group*) {}
EQ_DEV eq_Group eq_group_of(const eq_Group*, int index) {
  const bool beyond = EQ_GROUPS % EQ_STEP_GROUPS && index >= EQ_GROUPS;
  return {beyond ? 0 : index * EQ_UNIT, 0};
}
#else
#define EQ_TABLE_GROUPS (EQ_STEPS * EQ_STEP_GROUPS)
EQ_DEV void eq_fill_groups(eq_Group* groups) {
  for (int i = threadIdx.x; i < EQ_TABLE_GROUPS; i += EQ_THREADS) groups[i] = eq_group(i);
  __syncthreads();
}
EQ_DEV eq_Group eq_group_of(const eq_Group* groups, int index) { return groups[index]; }
#endif

EQ_DEV bool eq_has_row(int i) {
  return EQ_BM % EQ_A_ROWS == 0 || threadIdx.x / EQ_STEP_GROUPS + i * EQ_A_ROWS < EQ_BM;
}
EQ_DEV bool eq_has_chunk(int i) {
  return EQ_B_CHUNKS % EQ_THREADS == 0 || threadIdx.x + i * EQ_THREADS < EQ_B_CHUNKS;
}
EQ_DEV void eq_find_windows(eq_Window (&windows)[EQ_A_LOADS], const i8* __restrict__ x) {
#pragma unroll
  for (int i = 0; i < EQ_A_LOADS; i++)
    windows[i] = eq_window(x, blockIdx.x * EQ_BM + threadIdx.x / EQ_STEP_GROUPS + i * EQ_A_ROWS);
}
