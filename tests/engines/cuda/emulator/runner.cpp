// The child process that runs kernels for a test: commands on stdin, a line of answer each.
//
//   map NAME PATH MAPPED START SIZE WRITABLE   -> ok ADDRESS     memory shared with the parent
//   unmap NAME                                 -> ok
//   launch LIBRARY GX GY GZ TX TY TZ DYNAMIC SEED COUNT ADDRESS...   -> ok
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "runtime.h"

namespace {

struct Mapping {
  void* start;
  size_t size;
};

std::map<std::string, Mapping> mappings;
std::map<std::string, void*> libraries;
const size_t PAGE = 4096;

void answer(const std::string& text) { std::cout << text << std::endl; }

// Between two pages that nobody may touch.
void map_memory(std::istream& words) {
  std::string name, path;
  size_t mapped, start, size;
  int writable;
  words >> name >> path >> mapped >> start >> size >> writable;
  const int file = open(path.c_str(), O_RDWR | O_CLOEXEC);
  char* room = (char*)mmap(nullptr, mapped + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  const int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
  void* memory = mmap(room + PAGE, mapped, protection, MAP_SHARED | MAP_FIXED, file, 0);
  close(file);
  if (memory == MAP_FAILED) return answer("error: cannot map " + path);
  mappings[name] = {room, mapped + 2 * PAGE};
  emulator_name_memory(name.c_str(), room + PAGE + start, size);
  answer("ok " + std::to_string((size_t)(room + PAGE + start)));
}

void unmap_memory(std::istream& words) {
  std::string name;
  words >> name;
  munmap(mappings[name].start, mappings[name].size);
  mappings.erase(name);
  emulator_forget_memory(name.c_str());
  answer("ok");
}

void* library(const std::string& path) {
  void*& loaded = libraries[path];
  if (!loaded) loaded = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  return loaded;
}

void launch(std::istream& words) {
  std::string path;
  unsigned grid[3], threads[3], dynamic_bytes;
  unsigned long long seed;
  int count;
  words >> path >> grid[0] >> grid[1] >> grid[2] >> threads[0] >> threads[1] >> threads[2] >>
      dynamic_bytes >> seed >> count;
  std::vector<unsigned long long> given(count);
  for (auto& address : given) words >> address;
  void* loaded = library(path);
  if (!loaded) return answer(std::string("error: ") + dlerror());
  auto* entry = (void (*)(const unsigned long long*))dlsym(loaded, "emulator_entry");
  auto* parameters = (int (*)())dlsym(loaded, "emulator_parameters");
  if (!entry || !parameters) return answer("error: no EQ_EXPORT at the end of the source");
  if (parameters() != count)
    return answer("error: the kernel takes " + std::to_string(parameters()) + " pointers, not " +
                  std::to_string(count));
  emulator_launch(entry, given.data(), grid, threads, dynamic_bytes, seed);
  answer("ok");
}

}  // namespace

int main() {
  emulator_catch_faults();
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string command;
    words >> command;
    if (command == "map") map_memory(words);
    else if (command == "unmap") unmap_memory(words);
    else if (command == "launch") launch(words);
    else answer("error: what is " + command);
  }
}
