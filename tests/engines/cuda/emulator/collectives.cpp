// What a warp computes together: ldmatrix, mma, votes. Layouts of fragments as the PTX ISA draws them.
#include <cstring>

#include "core.h"

namespace emulator {

// Lane 8 * t + r gives row r of tile t; lane l receives 4 bytes of row l / 4 of every tile.
void load_matrix(Warp& warp, int turn) {
  for (int tile = 0; tile < 4; tile++)
    for (int r = 0; r < 8; r++) {
      const char* row;
      memcpy(&row, warp.in[turn][8 * tile + r], sizeof row);
      if ((size_t)row % 16) emulator_fail("ldmatrix: a row at an address not aligned to 16 bytes");
      for (int part = 0; part < 4; part++)
        memcpy(&warp.out[turn][4 * r + part][tile], row + 4 * part, 4);
    }
}

static int dot(const i8* a, const i8* b, int depth) {
  u32 sum = 0;
  for (int k = 0; k < depth; k++) sum += (u32)((int)a[k] * (int)b[k]);
  return (int)sum;
}

// words: a[4], b[2], c[4]
void multiply_16832(Warp& warp, int turn) {
  i8 a[16][32], b[8][32];  // rows of a, columns of b
  for (int lane = 0; lane < 32; lane++) {
    const u32* words = warp.in[turn][lane];
    const int group = lane / 4, part = lane % 4;
    for (int i = 0; i < 4; i++) memcpy(&a[group + 8 * (i % 2)][16 * (i / 2) + 4 * part], &words[i], 4);
    for (int i = 0; i < 2; i++) memcpy(&b[group][16 * i + 4 * part], &words[4 + i], 4);
  }
  for (int lane = 0; lane < 32; lane++)
    for (int i = 0; i < 4; i++) {
      const i8* row = a[lane / 4 + 8 * (i / 2)];
      const i8* column = b[2 * (lane % 4) + i % 2];
      warp.out[turn][lane][i] = warp.in[turn][lane][6 + i] + (u32)dot(row, column, 32);
    }
}

// words: a, b, c[2]
void multiply_8816(Warp& warp, int turn) {
  i8 a[8][16], b[8][16];
  for (int lane = 0; lane < 32; lane++) {
    memcpy(&a[lane / 4][4 * (lane % 4)], &warp.in[turn][lane][0], 4);
    memcpy(&b[lane / 4][4 * (lane % 4)], &warp.in[turn][lane][1], 4);
  }
  for (int lane = 0; lane < 32; lane++)
    for (int i = 0; i < 2; i++) {
      const u32 sum = (u32)dot(a[lane / 4], b[2 * (lane % 4) + i], 16);
      warp.out[turn][lane][i] = warp.in[turn][lane][2 + i] + sum;
    }
}

// words: a[2], b[2], c[8], each lane's place in the fragments rotated as wmma.h has it
void multiply_161616(Warp& warp, int turn) {
  i8 a[16][16], b[16][16];
  for (u32 lane = 0; lane < 32; lane++) {
    const u32 place = (lane + FRAGMENT_ROTATION) & 31;
    memcpy(&a[place / 2][8 * (place % 2)], &warp.in[turn][lane][0], 8);
    memcpy(&b[place / 2][8 * (place % 2)], &warp.in[turn][lane][2], 8);
  }
  for (u32 lane = 0; lane < 32; lane++) {
    const u32 place = (lane + FRAGMENT_ROTATION) & 31;
    for (u32 i = 0; i < 8; i++) {
      const u32 sum = (u32)dot(a[place / 2], b[8 * (place % 2) + i], 16);
      warp.out[turn][lane][i] = warp.in[turn][lane][4 + i] + sum;
    }
  }
}

// words: mask, predicate -> the bits of the lanes that said yes
void vote(Warp& warp, int turn) {
  u32 bits = 0;
  for (int lane = 0; lane < 32; lane++) {
    const u32* words = warp.in[turn][lane];
    if (words[0] != ~0u) emulator_fail("a vote of a part of a warp: only full masks are emulated");
    bits |= (words[1] ? 1u : 0u) << lane;
  }
  for (int lane = 0; lane < 32; lane++) warp.out[turn][lane][0] = bits;
}

}  // namespace emulator
