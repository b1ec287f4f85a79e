// Ends the process with a message where a kernel touches memory that is not its own, or computes
// what C++ leaves undefined (compiled with -fsanitize: the compiler calls these handlers).
#include <signal.h>
#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

#include "core.h"
#include "runtime.h"

namespace {

struct Memory {
  const char* start;
  size_t size;
};

std::map<std::string, Memory>& memories() {
  static std::map<std::string, Memory> all;
  return all;
}

size_t distance(const Memory& memory, const char* address) {
  if (address < memory.start) return memory.start - address;
  return address < memory.start + memory.size ? 0 : address - memory.start - memory.size + 1;
}

std::string place(const char* address) {
  const std::pair<const std::string, Memory>* nearest = nullptr;
  for (auto& memory : memories())
    if (!nearest || distance(memory.second, address) < distance(nearest->second, address))
      nearest = &memory;
  if (!nearest || distance(nearest->second, address) > (1u << 20)) return "no memory of the kernel's";
  const Memory& memory = nearest->second;
  char text[200];
  snprintf(text, sizeof text, "byte %td of %s, which has %zu", address - memory.start,
           nearest->first.c_str(), memory.size);
  return text;
}

void on_fault(int number, siginfo_t* about, void*) {
  const std::string where = place((const char*)about->si_addr);
  char text[300];
  snprintf(text, sizeof text, "%s at %p: %s",
           number == SIGFPE ? "a division by zero" : "an illegal address", about->si_addr,
           where.c_str());
  emulator::emulator_fail(text);
}

struct Source {  // as the compiler's instrumentation has it
  const char* file;
  u32 line, column;
};

[[noreturn]] void undefined(const char* what, const Source* source) {
  char text[300];
  snprintf(text, sizeof text, "%s in line %u, column %u", what, source->line, source->column);
  emulator::emulator_fail(text);
}

}  // namespace

void emulator_name_memory(const char* name, const void* start, size_t size) {
  memories()[name] = {(const char*)start, size};
}

void emulator_forget_memory(const char* name) { memories().erase(name); }

void emulator_catch_faults() {
  static char stack[64 << 10];
  stack_t alternate = {stack, 0, sizeof stack};
  sigaltstack(&alternate, nullptr);
  struct sigaction action = {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  for (int number : {SIGSEGV, SIGBUS, SIGFPE}) sigaction(number, &action, nullptr);
}

extern "C" {
void __ubsan_handle_out_of_bounds_abort(const Source* source, void*) {
  undefined("an index outside its array", source);
}
void __ubsan_handle_shift_out_of_bounds_abort(const Source* source, void*, void*) {
  undefined("a shift by more bits than there are", source);
}
void __ubsan_handle_type_mismatch_v1_abort(const Source* source, void*) {
  undefined("an access at an address not aligned to its size", source);
}
void __ubsan_handle_divrem_overflow_abort(const Source* source, void*, void*) {
  undefined("a division by zero", source);
}
void __ubsan_handle_float_cast_overflow_abort(const Source* source, void*) {
  undefined("a float beyond the integer that it becomes", source);
}
}
