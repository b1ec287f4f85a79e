// What the runtime's two halves share, and what programs call that run kernels with it.
#pragma once
#include <cstddef>
#include <cstdint>

extern "C" {
// Runs a grid; `entry` and `parameters` are the kernel's own (EQ_EXPORT). seed 0 runs threads and
// blocks in order and copies late; others shuffle both, and some blocks run side by side.
void emulator_launch(void (*entry)(const unsigned long long*), const unsigned long long* given,
                     const unsigned* grid, const unsigned* threads, unsigned dynamic_bytes,
                     uint64_t seed);
// Names memory, for the messages about addresses outside it.
void emulator_name_memory(const char* name, const void* start, size_t size);
void emulator_forget_memory(const char* name);
// A wild address ends the process with a message that names the thread and the memory nearest.
void emulator_catch_faults();
}

// Memory that ends at a page which nobody may touch.
char* guarded_memory(size_t size);
