// Fully-connected layer, one output a thread: views of any alignment. The reference on the device.
//
// x [ROWS, K] int8, rows X_PITCH apart, weights [O, K] int8, y [ROWS, O], rows Y_PITCH apart.

EQ_KERNEL(EQ_THREADS, 1)
void dense_direct(const i8* __restrict__ x, const i8* __restrict__ weights,
                  const int* __restrict__ bias, const float* __restrict__ scale,
                  const i8* __restrict__ other, const i8* __restrict__ table, i8* __restrict__ y) {
  const int t = blockIdx.x * EQ_THREADS + threadIdx.x;
  if (t >= EQ_ROWS * EQ_O) return;
  const int row = t / EQ_O, o = t % EQ_O;
  int sum = 0;
  for (int k = 0; k < EQ_K; k++)
    sum += eq_ldg_i8(x + row * EQ_X_PITCH + k) * eq_ldg_i8(weights + (size_t)o * EQ_K + k);
  eq_store_result(y, row, o, sum, bias, scale, other, table);
}
EQ_EXPORT(dense_direct)
