// Adding up what blocks that split K along blockIdx.z have summed, each over a part of it. Scratch
// holds a counter for each tile, and from int SPLIT_SUMS on TILE_SUMS partial sums a tile, in the
// order in which threads hold them.

#define EQ_FIRST_STEP (EQ_SPLITS > 1 ? (int)blockIdx.z * EQ_SPLIT_STEPS : 0)  // of this block
#define EQ_END_STEP (EQ_SPLITS > 1 ? min(EQ_FIRST_STEP + EQ_SPLIT_STEPS, EQ_STEPS) : EQ_STEPS)

// Every block adds its sums; the last of a tile to arrive takes the total, leaves zeros behind, and
// alone gets `true`. Integers add up to the same in any order.
template <int Count>
EQ_DEV bool eq_join_splits(int* sums, int* scratch) {
  EQ_SMEM(arrived_at, 4);
  int* arrived = (int*)arrived_at;
  const int tile = blockIdx.y * gridDim.x + blockIdx.x;
  int* total = scratch + EQ_SPLIT_SUMS + tile * (Count * EQ_THREADS) + threadIdx.x;
#pragma unroll
  for (int i = 0; i < Count; i++) eq_atomic_add(total + i * EQ_THREADS, sums[i]);
  eq_threadfence();
  __syncthreads();
  if (threadIdx.x == 0) *arrived = eq_atomic_add(scratch + tile, 1);
  __syncthreads();
  if (*arrived != EQ_SPLITS - 1) return false;
  eq_threadfence();
#pragma unroll
  for (int i = 0; i < Count; i++) {
    sums[i] = eq_load_shared_by_blocks(total + i * EQ_THREADS);
    eq_store_shared_by_blocks(total + i * EQ_THREADS, 0);
  }
  if (threadIdx.x == 0) eq_store_shared_by_blocks(scratch + tile, 0);
  return true;
}
