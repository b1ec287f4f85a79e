// Batched matrix product of two int8 values on dp4a: BM x BN results a block, 4 x 4 a thread, steps of
// 32 along K through shared memory.
//
// a [..., M, K] (A_TRANSPOSED: [..., K, M]), b [..., K, N] (B_TRANSPOSED: [..., N, K]), y [..., M, N];
// rows A_PITCH, B_PITCH, Y_PITCH apart, matrix `blockIdx.z` where the strides of the outer loops say.
//
// sum((a - za) * (b - zb)) = sum(ab) - zb * sum(a) - za * sum(b) + K * za * zb: int8 less its zero
// point is no int8. The sums of a row and of a column are dp4a with ones, and left out where the
// other's zero point is 0. Beyond the edges a and b are 0, which adds nothing to any of the three.

#include "product_result.cuh"

#define EQ_STEP_WORDS 8
#define EQ_A_ROW (EQ_BM + 4)  // words of four k: neighbouring words of a row lie 4 banks apart
#define EQ_B_ROW (EQ_BN + 4)
#define EQ_ONES 0x01010101

// Four k of one row that lies along K.
template <int K, bool Words>
EQ_DEV u32 product_along(const i8* p, int k) {
  if (Words && k + 4 <= K) return (u32)eq_ldg1(p + k);
  u32 word = 0;
#pragma unroll
  for (int i = 0; i < 4; i++)
    if (k + i < K) word |= (u32)(eq_ldg_i8(p + k + i) & 255) << (8 * i);
  return word;
}

// Four k of one column: its elements lie `Pitch` apart.
template <int K, int Pitch>
EQ_DEV u32 product_across(const i8* p, int k) {
  u32 word = 0;
#pragma unroll
  for (int i = 0; i < 4; i++)
    if (k + i < K) word |= (u32)(eq_ldg_i8(p + (k + i) * Pitch) & 255) << (8 * i);
  return word;
}

// Loads words [STEP_WORDS][Rows] of k from `first_k` on, of the rows from `first` on of `Extent`.
template <int Rows, int Extent, int Pitch, bool AlongK, bool Words>
EQ_DEV void product_load(int* tile, const i8* matrix, int first, int first_k) {
#pragma unroll 4
  for (int e = threadIdx.x; e < Rows * EQ_STEP_WORDS; e += EQ_THREADS) {
    const int row = AlongK ? e / EQ_STEP_WORDS : e % Rows;
    const int word = AlongK ? e % EQ_STEP_WORDS : e / Rows;
    const int k = first_k + word * 4;
    u32 loaded = 0;
    if (first + row < Extent)
      loaded = AlongK ? product_along<EQ_K, Words>(matrix + (first + row) * Pitch, k)
                      : product_across<EQ_K, Pitch>(matrix + first + row, k);
    tile[word * (Rows + 4) + row] = (int)loaded;
  }
}

EQ_DEV void product_four(int (&four)[4], const int* p) {
  const int4 v = *(const int4*)p;
  four[0] = v.x, four[1] = v.y, four[2] = v.z, four[3] = v.w;
}

struct Sums {
  int products[4][4];
  int a[4], b[4];
};

EQ_DEV void product_add(Sums& sums, const int* a_tile, const int* b_tile, int row, int column) {
#pragma unroll
  for (int word = 0; word < EQ_STEP_WORDS; word++) {
    int a[4], b[4];
    product_four(a, a_tile + word * EQ_A_ROW + row);
    product_four(b, b_tile + word * EQ_B_ROW + column);
#pragma unroll
    for (int i = 0; i < 4; i++) {
      if (EQ_B_ZERO_POINT) sums.a[i] = eq_dp4a(a[i], EQ_ONES, sums.a[i]);
      if (EQ_A_ZERO_POINT) sums.b[i] = eq_dp4a(b[i], EQ_ONES, sums.b[i]);
#pragma unroll
      for (int j = 0; j < 4; j++) sums.products[i][j] = eq_dp4a(a[i], b[j], sums.products[i][j]);
    }
  }
}

EQ_KERNEL(EQ_THREADS, 1)
void matrix_product(const i8* __restrict__ a, const i8* __restrict__ b, i8* __restrict__ y) {
  EQ_SMEM(memory, EQ_STEP_WORDS * (EQ_A_ROW + EQ_B_ROW) * 4);
  int* a_tile = (int*)memory;
  int* b_tile = a_tile + EQ_STEP_WORDS * EQ_A_ROW;
  constexpr int sizes[] = EQ_SIZES, a_strides[] = EQ_A_STRIDES, b_strides[] = EQ_B_STRIDES;
  constexpr int y_strides[] = EQ_Y_STRIDES;
  a += eq_offset(blockIdx.z, sizes, a_strides);
  b += eq_offset(blockIdx.z, sizes, b_strides);
  y += eq_offset(blockIdx.z, sizes, y_strides);
  const int first_m = blockIdx.y * EQ_BM, first_n = blockIdx.x * EQ_BN;
  const int row = threadIdx.x / (EQ_BN / 4) * 4, column = threadIdx.x % (EQ_BN / 4) * 4;

  Sums sums = {};
#pragma unroll 1
  for (int k = 0; k < EQ_K; k += 4 * EQ_STEP_WORDS) {
    product_load<EQ_BM, EQ_M, EQ_A_PITCH, !EQ_A_TRANSPOSED, EQ_A_WORDS>(a_tile, a, first_m, k);
    product_load<EQ_BN, EQ_N, EQ_B_PITCH, EQ_B_TRANSPOSED, EQ_B_WORDS>(b_tile, b, first_n, k);
    __syncthreads();
    product_add(sums, a_tile, b_tile, row, column);
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < 4; i++)
#pragma unroll
    for (int j = 0; j < 4; j++) {
      const int m = first_m + row + i, n = first_n + column + j;
      if (m >= EQ_M || n >= EQ_N) continue;
      const int acc = sums.products[i][j] - EQ_B_ZERO_POINT * sums.a[i] -
                      EQ_A_ZERO_POINT * sums.b[j] + EQ_K * EQ_A_ZERO_POINT * EQ_B_ZERO_POINT;
      y[m * EQ_Y_PITCH + n] = (i8)product_result(acc);
    }
}
EQ_EXPORT(matrix_product)
