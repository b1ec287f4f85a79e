// Stacks of fibers.
#pragma once

extern "C" {
// Saves the registers that a call keeps on this stack, its pointer in *from, and goes on at `to`.
void emulator_switch(void** from, void* to);
// The pointer of a stack that ends at `end` and begins with a call of `start`.
void* emulator_new_stack(char* end, void (*start)());
}
