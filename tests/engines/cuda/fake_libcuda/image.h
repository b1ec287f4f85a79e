// What fake libnvrtc makes and fake libcuda loads: an ELF that looks like a cubin, whose section
// .text.<kernel> holds the emulator's library of that kernel.
#pragma once
#include <elf.h>

#include <cstring>
#include <string>
#include <vector>

const int MACHINE_CUDA = 190;

struct Image {
  int sm;
  std::string kernel, library;
};

// Appends a section's bytes at a multiple of 64, and says where they are.
inline size_t append(std::string& image, const std::string& bytes) {
  image.resize((image.size() + 63) / 64 * 64);
  const size_t start = image.size();
  image += bytes;
  return start;
}

// Pairs of a symbol and a number, as .nv.info has them: registers, and the stack frame.
inline std::string information() {
  const unsigned short sized = 0x0004, size = 8;
  const unsigned attributes[2][3] = {{0x2F, 1, 40}, {0x11, 1, 0}};  // attribute, symbol, value
  std::string bytes;
  for (auto& attribute : attributes) {
    const unsigned char head[4] = {(unsigned char)sized, (unsigned char)attribute[0], size, 0};
    bytes.append((const char*)head, 4);
    bytes.append((const char*)&attribute[1], 8);
  }
  return bytes;
}

inline std::string write_image(const Image& made) {
  const std::string text = ".text." + made.kernel;
  const std::vector<std::string> names = {"", ".shstrtab", ".strtab", ".symtab", ".nv.info", text};
  std::string joined;
  std::vector<unsigned> offsets;
  for (const std::string& name : names) {
    offsets.push_back(joined.size());
    joined += name + '\0';
  }
  Elf64_Sym symbols[2] = {};
  symbols[1].st_name = 1;
  symbols[1].st_shndx = 5;
  const std::string symbol_bytes((const char*)symbols, sizeof symbols);
  const std::vector<std::string> contents = {
      "", joined, std::string(1, '\0') + made.kernel + '\0', symbol_bytes, information(), made.library};
  const unsigned types[] = {SHT_NULL, SHT_STRTAB, SHT_STRTAB, SHT_SYMTAB, 0x70000000, SHT_PROGBITS};
  std::string image(sizeof(Elf64_Ehdr), '\0'), table;
  for (size_t i = 0; i < names.size(); i++) {
    Elf64_Shdr section = {};
    section.sh_name = offsets[i];
    section.sh_type = types[i];
    section.sh_offset = append(image, contents[i]);
    section.sh_size = contents[i].size();
    table.append((const char*)&section, sizeof section);
  }
  Elf64_Ehdr header = {};
  memcpy(header.e_ident, ELFMAG "\2\1\1", 7);
  header.e_type = ET_EXEC;
  header.e_machine = MACHINE_CUDA;
  header.e_flags = made.sm;
  header.e_shoff = append(image, table);
  header.e_ehsize = sizeof header;
  header.e_shentsize = sizeof(Elf64_Shdr);
  header.e_shnum = names.size();
  header.e_shstrndx = 1;
  memcpy(&image[0], &header, sizeof header);
  return image;
}

// False where these bytes are no such image.
inline bool read_image(const char* bytes, Image& found) {
  const Elf64_Ehdr& header = *(const Elf64_Ehdr*)bytes;
  if (memcmp(bytes, ELFMAG, 4) || header.e_machine != MACHINE_CUDA) return false;
  const auto* sections = (const Elf64_Shdr*)(bytes + header.e_shoff);
  const char* names = bytes + sections[header.e_shstrndx].sh_offset;
  for (int i = 0; i < header.e_shnum; i++) {
    const std::string name = names + sections[i].sh_name;
    if (name.rfind(".text.", 0)) continue;
    found.sm = header.e_flags & 0xFFFF;
    found.kernel = name.substr(6);
    found.library.assign(bytes + sections[i].sh_offset, sections[i].sh_size);
  }
  return found.library.rfind(ELFMAG, 0) == 0;
}
