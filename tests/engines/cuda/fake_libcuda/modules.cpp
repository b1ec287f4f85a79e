// Modules and kernels: the emulator's libraries, in the clothes of cubins.
#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "driver.h"
#include "image.h"
#include "runtime.h"

namespace {

struct Module;
struct Function {
  std::shared_ptr<Module> module;
  int dynamic_limit = 48 << 10;
};
struct Module {
  Context* context;
  std::string kernel;
  void* library;
  void (*entry)(const unsigned long long*);
  int (*parameters)();
  Function function;
};

const void* END = nullptr;
const size_t BUFFER_POINTER = 1, BUFFER_SIZE = 2;

std::set<std::shared_ptr<Module>> modules;

// Kernels call the emulator, which came along with this library and is seen by nobody else.
void show_emulator() {
  static void* const shown = dlopen("libemulator.so", RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD);
  if (!shown) complain("%s", dlerror());
}

void* open_library(const std::string& bytes) {
  show_emulator();
  // A name that was never used before: dlopen gives what it has under a name without looking again.
  char path[] = "/tmp/edgeq-kernel-XXXXXX";
  const int file = mkstemp(path);
  if (file < 0) return nullptr;
  const bool is_written = write(file, bytes.data(), bytes.size()) == (ssize_t)bytes.size();
  void* library = is_written ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : nullptr;
  close(file);
  unlink(path);
  if (!library) complain("%s", dlerror());
  return library;
}

bool fits_device(int sm) {
  const int device = (int)setting("FAKE_CUDA_SM", 87);
  return sm / 10 == device / 10 && sm <= device;
}

int load(Context* context, void** handle, const void* bytes) {
  if (int fault = refuse_capture(context)) return fault;
  Image image;
  if (!read_image((const char*)bytes, image)) return INVALID_IMAGE;
  if (!fits_device(image.sm)) return NO_BINARY_FOR_GPU;
  void* library = open_library(image.library);
  if (!library) return INVALID_IMAGE;
  auto module = std::make_shared<Module>();
  module->context = context;
  module->kernel = image.kernel;
  module->library = library;
  module->entry = (decltype(module->entry))dlsym(library, "emulator_entry");
  module->parameters = (decltype(module->parameters))dlsym(library, "emulator_parameters");
  if (!module->entry || !module->parameters) return INVALID_IMAGE;
  modules.insert(module);
  counter(MODULES)++;
  *handle = module.get();
  return SUCCESS;
}

std::shared_ptr<Module> find_module(Context* context, void* handle) {
  for (auto& module : modules)
    if (module.get() == handle && module->context == context) return module;
  return nullptr;
}

std::shared_ptr<Module> module_of(Context* context, Function* function) {
  for (auto& module : modules)
    if (&module->function == function && module->context == context) return module;
  return nullptr;
}

// The parameters' bytes: from a buffer, or from pointers to each.
int read_parameters(const Module& module, void** each, void** extra, std::string& bytes) {
  const size_t count = module.parameters();
  if (!extra) {
    for (size_t i = 0; i < count; i++) bytes.append((const char*)each[i], 8);
    return SUCCESS;
  }
  const char* buffer = nullptr;
  size_t size = 0;
  for (; *extra != END; extra += 2) {
    if ((size_t)extra[0] == BUFFER_POINTER) buffer = (const char*)extra[1];
    if ((size_t)extra[0] == BUFFER_SIZE) size = *(size_t*)extra[1];
  }
  bytes.assign(buffer, size);
  if (size == 8 * count) return SUCCESS;
  complain("%s takes %zu bytes of parameters, not %zu", module.kernel.c_str(), 8 * count, size);
  return INVALID_VALUE;
}

struct Launch {
  std::shared_ptr<Module> module;
  unsigned grid[3], block[3], dynamic_bytes;
  std::string parameters;

  int run() const {
    if (!modules.count(module)) {
      complain("%s runs after its module was unloaded", module->kernel.c_str());
      return LAUNCH_FAILED;
    }
    counter(KERNELS)++;
    if (int fault = planned_fault("kernel")) return fault;
    const auto* given = (const unsigned long long*)parameters.data();
    emulator_launch(module->entry, given, grid, block, dynamic_bytes, setting("FAKE_CUDA_SEED", 0));
    return SUCCESS;
  }
};

}  // namespace

void forget_modules(Context* context) {
  for (auto at = modules.begin(); at != modules.end();) {
    const bool gone = (*at)->context == context;
    if (gone) counter(MODULES)--;
    at = gone ? modules.erase(at) : std::next(at);
  }
}

DRIVER cuModuleLoadData(void** module, const void* image) {
  ENTER_CONTEXT
  return load(context, module, image);
}
DRIVER cuModuleLoadDataEx(void** module, const void* image, unsigned, int*, void**) {
  ENTER_CONTEXT
  return load(context, module, image);
}
DRIVER cuModuleUnload(void* handle) {
  ENTER_CONTEXT
  auto module = find_module(context, handle);
  if (!module) return INVALID_HANDLE;
  modules.erase(module);
  counter(MODULES)--;
  return SUCCESS;
}
DRIVER cuModuleGetFunction(Function** function, void* handle, const char* name) {
  ENTER_CONTEXT
  auto module = find_module(context, handle);
  if (!module) return INVALID_HANDLE;
  if (module->kernel != name) return NOT_FOUND;
  *function = &module->function;
  return SUCCESS;
}
DRIVER cuFuncGetAttribute(int* value, int attribute, Function* function) {
  ENTER_CONTEXT
  if (!module_of(context, function)) return INVALID_HANDLE;
  *value = attribute == 0 ? 1024 : attribute == 4 ? 40 : 0;  // threads, registers
  return SUCCESS;
}
DRIVER cuFuncSetAttribute(Function* function, int attribute, int value) {
  ENTER_CONTEXT
  if (!module_of(context, function)) return INVALID_HANDLE;
  if (attribute == 8) function->dynamic_limit = value;
  return SUCCESS;
}
DRIVER cuFuncSetBlockShape(Function*, int, int, int) { return SUCCESS; }
DRIVER cuFuncSetSharedSize(Function*, unsigned) { return SUCCESS; }
DRIVER cuFuncSetCacheConfig(Function*, int) { return SUCCESS; }

DRIVER cuLaunchKernel(Function* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                      unsigned by, unsigned bz, unsigned dynamic_bytes, void* handle, void** each,
                      void** extra) {
  ENTER_CONTEXT
  Stream* stream = find_stream(context, handle);
  auto module = module_of(context, function);
  if (!stream || !module) return INVALID_HANDLE;
  const uint64_t threads = (uint64_t)bx * by * bz;
  if (!threads || threads > 1024 || !gx || !gy || !gz) return INVALID_VALUE;
  if (gy > 65535 || gz > 65535) return INVALID_VALUE;
  if ((int)dynamic_bytes > function->dynamic_limit) return INVALID_VALUE;
  Launch launch = {module, {gx, gy, gz}, {bx, by, bz}, dynamic_bytes, {}};
  if (int code = read_parameters(*module, each, extra, launch.parameters)) return code;
  return put(stream, [launch] { return launch.run(); });
}
