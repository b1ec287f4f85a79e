// Convolution as an implicit matrix product in float32, for GPUs without any instruction for products
// of bytes (sm_53, sm_62: dp4a is emulated there with about six instructions). A product of bytes is
// at most 2^14, so that 1024 of them add up exactly in a float; then the sum goes to an int.
#include "gather.cuh"
#include "splits.cuh"

typedef float eq_Element;
typedef float eq_Partial;
#define EQ_ROW_BYTES 1
#define EQ_FLUSH_STEPS (1024 / EQ_BK)

EQ_DEV void eq_spread(float* to, int pitch, int word) {
  to[0] = __int2float_rn(eq_byte<0>(word));
  to[pitch] = __int2float_rn(eq_byte<1>(word));
  to[2 * pitch] = __int2float_rn(eq_byte<2>(word));
  to[3 * pitch] = __int2float_rn(eq_byte<3>(word));
}
EQ_DEV float eq_multiply_add(int a, int b, float sum) {
  return __fmaf_rn(eq_bits_float(a), eq_bits_float(b), sum);
}
EQ_DEV int eq_whole(float sum) { return __float2int_rn(sum); }

#include "lane_tile.cuh"

EQ_KERNEL(EQ_THREADS, 1)
void conv_fp32(const i8* __restrict__ x, const i8* __restrict__ weights,
               const i8* __restrict__ outside, int* __restrict__ scratch,
               const int* __restrict__ bias, const float* __restrict__ scale,
               const i8* __restrict__ other, const i8* __restrict__ table, i8* __restrict__ y) {
  eq_convolve(x, weights, outside, scratch, bias, scale, other, table, y);
}
EQ_EXPORT(conv_fp32)
