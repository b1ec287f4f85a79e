// y[n, h, w] = x[n, row of h, column of w], EQ_WIDTH channels a thread. Where rows and columns are
// h * EQ_X_H / EQ_Y_H and w * EQ_X_W / EQ_Y_W (EQ_IS_EVEN), they are computed; otherwise read.

EQ_KERNEL(EQ_THREADS, 1)
void resize_nearest(const i8* __restrict__ x, const int* __restrict__ rows,
                    const int* __restrict__ columns, i8* __restrict__ y) {
  const int t = blockIdx.x * EQ_THREADS + threadIdx.x;
  if (t >= EQ_N * EQ_Y_H * EQ_Y_W * (EQ_C / EQ_WIDTH)) return;
  const int c = t % (EQ_C / EQ_WIDTH) * EQ_WIDTH, m = t / (EQ_C / EQ_WIDTH);
  int row = m / EQ_Y_W % EQ_Y_H, column = m % EQ_Y_W;
#if EQ_IS_EVEN
  row = row * EQ_X_H / EQ_Y_H, column = column * EQ_X_W / EQ_Y_W;
#else
  row = eq_ldg1(rows + row), column = eq_ldg1(columns + column);
#endif
  const int pixel = (m / (EQ_Y_H * EQ_Y_W) * EQ_X_H + row) * EQ_X_W + column;
  int v[EQ_WIDTH];
  eq_load(v, x + pixel * EQ_X_PITCH + c);
  eq_store(y + m * EQ_Y_PITCH + c, v);
}
EQ_EXPORT(resize_nearest)
