// Convolution as an implicit matrix product of int16 pairs, for GPUs without any instruction for
// products of bytes (sm_53, sm_62): their XMAD multiplies either half of a register by either half of
// another and adds, one product an instruction, as a fused float multiply-add has it; but two values
// of K fit one word of shared memory, and nothing has to be kept small to be exact.
#include "gather.cuh"
#include "splits.cuh"

typedef int eq_Element;
typedef int eq_Partial;
#define EQ_ROW_BYTES 2
#define EQ_FLUSH_STEPS EQ_STEPS

EQ_DEV void eq_spread(int* to, int pitch, int word) {
  to[0] = (int)eq_prmt(word, 0, 0x9180);  // bytes 0 and 1, each with its sign above it
  to[pitch] = (int)eq_prmt(word, 0, 0xB3A2);
}
EQ_DEV int eq_multiply_add(int a, int b, int sum) { return eq_multiply_add_pairs(a, b, sum); }
EQ_DEV int eq_whole(int sum) { return sum; }

#include "lane_tile.cuh"

EQ_KERNEL(EQ_THREADS, 1)
void conv_int16(const i8* __restrict__ x, const i8* __restrict__ weights,
                const i8* __restrict__ outside, int* __restrict__ scratch,
                const int* __restrict__ bias, const float* __restrict__ scale,
                const i8* __restrict__ other, const i8* __restrict__ table, i8* __restrict__ y) {
  eq_convolve(x, weights, outside, scratch, bias, scale, other, table, y);
}
EQ_EXPORT(conv_int16)
