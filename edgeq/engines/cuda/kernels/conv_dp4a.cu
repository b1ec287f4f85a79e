// Convolution as an implicit matrix product on dp4a (sm_61, sm_70 and up): four products of bytes an
// instruction, in tiles as lane_tile.cuh lays them out, x as gather.cuh reads it.
#include "gather.cuh"
#include "splits.cuh"

typedef int eq_Element;
typedef int eq_Partial;
#define EQ_ROW_BYTES 4
#define EQ_FLUSH_STEPS EQ_STEPS

EQ_DEV void eq_spread(int* to, int, int word) { *to = word; }
EQ_DEV int eq_multiply_add(int a, int b, int sum) { return eq_dp4a(a, b, sum); }
EQ_DEV int eq_whole(int sum) { return sum; }

#include "lane_tile.cuh"

EQ_KERNEL(EQ_THREADS, 1)
void conv_dp4a(const i8* __restrict__ x, const i8* __restrict__ weights,
               const i8* __restrict__ outside, int* __restrict__ scratch,
               const int* __restrict__ bias, const float* __restrict__ scale,
               const i8* __restrict__ other, const i8* __restrict__ table, i8* __restrict__ y) {
  eq_convolve(x, weights, outside, scratch, bias, scale, other, table, y);
}
EQ_EXPORT(conv_dp4a)
