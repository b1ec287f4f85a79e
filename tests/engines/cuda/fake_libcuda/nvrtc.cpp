// A stand-in for libnvrtc.so: g++ compiles the source for the emulator, and what looks like a cubin
// holds the result. It says that it is of CUDA 12.9.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "image.h"

#define NVRTC extern "C" __attribute__((visibility("default"))) int

namespace {

enum { SUCCESS = 0, INVALID_INPUT = 3, INVALID_PROGRAM = 4, INVALID_OPTION = 5, COMPILATION = 6 };
const int ARCHITECTURES[] = {50, 52, 53, 60, 61, 62, 70, 72, 75, 80, 86, 87, 89, 90, 100, 101, 120};
const int COUNT = sizeof ARCHITECTURES / sizeof *ARCHITECTURES;

struct Program {
  std::string source, image, log;
};

// The last kernel that the source exports; the first is in the definition of EQ_EXPORT.
std::string kernel_of(const std::string& source) {
  const std::string mark = "\nEQ_EXPORT(";
  const size_t at = source.rfind(mark);
  if (at == std::string::npos) return "";
  const size_t start = at + mark.size();
  return source.substr(start, source.find(')', start) - start);
}

int architecture(int count, const char* const* options) {
  for (int i = 0; i < count; i++) {
    int sm = 0;
    if (sscanf(options[i], "-arch=sm_%d", &sm) != 1) continue;
    for (int known : ARCHITECTURES)
      if (known == sm) return sm;
  }
  return 0;
}

std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

int run(const std::string& folder, Program& program) {
  const char* compiler = getenv("FAKE_NVRTC_COMMAND");
  const std::string source = folder + "/kernel.cu", library = folder + "/kernel.so";
  const std::string log = folder + "/log";
  std::ofstream(source, std::ios::binary) << program.source;
  const std::string command =
      std::string(compiler ? compiler : "false") + " " + source + " -o " + library + " 2> " + log;
  const int status = system(command.c_str());
  program.log = read(log);
  const int result = status ? COMPILATION : SUCCESS;
  if (!status) program.image = read(library);
  for (const std::string& path : {source, library, log}) unlink(path.c_str());
  return result;
}

int copy(const std::string& from, char* to) {
  memcpy(to, from.data(), from.size());
  return SUCCESS;
}

}  // namespace

NVRTC nvrtcVersion(int* major, int* minor) {
  *major = 12;
  *minor = 9;
  return SUCCESS;
}
NVRTC nvrtcGetNumSupportedArchs(int* count) {
  *count = COUNT;
  return SUCCESS;
}
NVRTC nvrtcGetSupportedArchs(int* architectures) {
  memcpy(architectures, ARCHITECTURES, sizeof ARCHITECTURES);
  return SUCCESS;
}
extern "C" __attribute__((visibility("default"))) const char* nvrtcGetErrorString(int code) {
  return code == COMPILATION      ? "NVRTC_ERROR_COMPILATION"
         : code == INVALID_OPTION ? "NVRTC_ERROR_INVALID_OPTION"
         : code                   ? "NVRTC_ERROR"
                                  : "NVRTC_SUCCESS";
}
NVRTC nvrtcCreateProgram(Program** program, const char* source, const char*, int headers,
                         const char* const*, const char* const*) {
  if (headers) return INVALID_INPUT;
  *program = new Program{source, "", ""};
  return SUCCESS;
}
NVRTC nvrtcCompileProgram(Program* program, int count, const char* const* options) {
  const int sm = architecture(count, options);
  if (!sm) return INVALID_OPTION;
  const std::string kernel = kernel_of(program->source);
  if (kernel.empty()) return program->log = "error: no EQ_EXPORT", COMPILATION;
  char folder[] = "/tmp/fake-nvrtc.XXXXXX";
  if (!mkdtemp(folder)) return INVALID_INPUT;
  const int result = run(folder, *program);
  rmdir(folder);
  if (!result) program->image = write_image({sm, kernel, program->image});
  return result;
}
NVRTC nvrtcGetProgramLogSize(Program* program, size_t* size) {
  *size = program->log.size() + 1;
  return SUCCESS;
}
NVRTC nvrtcGetProgramLog(Program* program, char* log) {
  log[program->log.size()] = 0;
  return copy(program->log, log);
}
NVRTC nvrtcGetCUBINSize(Program* program, size_t* size) {
  *size = program->image.size();
  return SUCCESS;
}
NVRTC nvrtcGetCUBIN(Program* program, char* image) { return copy(program->image, image); }
NVRTC nvrtcGetPTXSize(Program*, size_t*) { return INVALID_PROGRAM; }
NVRTC nvrtcGetPTX(Program*, char*) { return INVALID_PROGRAM; }
NVRTC nvrtcDestroyProgram(Program** program) {
  delete *program;
  *program = nullptr;
  return SUCCESS;
}
