// A copy of a strided, padded, mirrored or permuted x into a box of y, EQ_WIDTH neighbours of the
// innermost loop a thread; elements of EQ_ITEM bytes, 1 or 4.
//
// Loops run in the order of y's memory. Of a loop that may leave x, EQ_EXTENTS has x's size: its
// turn i reads index i * step + start, mirrored or filled outside. The other loops have extent 0,
// and start and step are in the pointer and the strides already.

#if EQ_ITEM == 1
typedef u8 Item;
#else
typedef u32 Item;
#endif
#define EQ_BYTES (EQ_WIDTH * EQ_ITEM)

struct Source {
  int offset;
  bool inside;
};

// Add the turn `i` of a loop to where x is read.
EQ_DEV void walk(Source& source, int i, int start, int step, int extent, int stride) {
  if (extent) {
    i = i * step + start;
#if EQ_MIRROR
    if (i < 0) i = -i - EQ_MIRROR_EDGE;
    if (i >= extent) i = 2 * (extent - 1) + EQ_MIRROR_EDGE - i;
#endif
    source.inside = source.inside && (u32)i < (u32)extent;
  }
  source.offset += i * stride;
}

EQ_DEV Item read(const Item* x, Source source) {
#if EQ_ITEM == 1
  return source.inside ? (Item)eq_ldg_i8(x + source.offset) : (Item)EQ_FILL;
#else
  return source.inside ? (Item)eq_ldg1(x + source.offset) : (Item)EQ_FILL;
#endif
}

EQ_KERNEL(EQ_THREADS, 1)
void move(const Item* __restrict__ x, Item* __restrict__ y) {
  constexpr int sizes[] = EQ_SIZES, x_strides[] = EQ_X_STRIDES, y_strides[] = EQ_Y_STRIDES;
  constexpr int starts[] = EQ_STARTS, steps[] = EQ_STEPS, extents[] = EQ_EXTENTS;
  constexpr int last = EQ_RANK - 1;
  int t = blockIdx.x * EQ_THREADS + threadIdx.x;
  if (t >= EQ_COUNT) return;
  const int first = t % (sizes[last] / EQ_WIDTH) * EQ_WIDTH;
  t /= sizes[last] / EQ_WIDTH;
  Source source = {0, true};
  int target = first * y_strides[last];
#pragma unroll
  for (int loop = last - 1; loop >= 0; loop--) {
    const int i = t % sizes[loop];
    t /= sizes[loop];
    walk(source, i, starts[loop], steps[loop], extents[loop], x_strides[loop]);
    target += i * y_strides[loop];
  }
#if EQ_BYTES < 4
  walk(source, first, starts[last], steps[last], extents[last], x_strides[last]);
  y[target] = read(x, source);
#else
  u32 words[EQ_BYTES / 4];
#if EQ_WHOLE_LOADS
  source.offset += first;
#pragma unroll
  for (int i = 0; i < EQ_BYTES / 4; i++) words[i] = EQ_FILL_WORD;
  if (source.inside) eq_load_words(words, x + source.offset);
#else
#pragma unroll
  for (int i = 0; i < EQ_BYTES / 4; i++) words[i] = 0;
#pragma unroll
  for (int i = 0; i < EQ_WIDTH; i++) {
    Source own = source;
    walk(own, first + i, starts[last], steps[last], extents[last], x_strides[last]);
    words[i * EQ_ITEM / 4] |= (u32)read(x, own) << (8 * (i * EQ_ITEM % 4));
  }
#endif
  eq_store_words(y + target, words);
#endif
}
EQ_EXPORT(move)
