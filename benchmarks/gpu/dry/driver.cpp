// A CUDA driver and NVRTC that carry nothing out: they say that they are an H100, keep the CUDA text of
// every kernel, and write down every launch, copy, allocation and synchronisation.
//
// DRY_OUT  folder of the log and of the kernels
// DRY_MEM  GiB of memory that the card says it has, 80 unless set
//
// A line of the log is one of
//   L name hash grid(3) units(3) shared bytes held   a launch; bytes of its buffers, each counted once
//   H2D n, D2H n, D2D n, H2D2D n, D2H2D n            copies of n bytes
//   A n, F n                                         memory taken from the card and given back
//   S what                                           the host waits
//   C hash options                                   a kernel is compiled
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <mutex>
#include <regex>
#include <string>
#include <vector>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#define API extern "C" __attribute__((visibility("default")))
typedef int R;
static std::string out() { static std::string d = getenv("DRY_OUT") ? getenv("DRY_OUT") : "/tmp/dry"; return d; }
static int logfd() { static int fd = open((out() + "/log").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644); return fd; }
static void say(const std::string &s) { std::string l = s + "\n"; (void)!write(logfd(), l.data(), l.size()); }
static std::mutex lock;
static std::map<uint64_t, size_t> sizes;
static size_t held = 0, most = 0;
// What a launch is measured by: bytes of an element of each buffer, and where the lengths of buffers
// stand in the structure that a kernel is handed last.
struct Signature {
    std::vector<size_t> elements;
    bool known = false, wide = false;
    size_t lengths = 0, position = 0;
};
struct Function { std::string name, hash; Signature signature; };

static size_t size_of(std::string type) {
    static const std::map<std::string, size_t> sizes = {
        {"float", 4}, {"double", 8}, {"__nv_bfloat16", 2}, {"__half", 2}, {"__nv_bfloat162", 4}, {"__half2", 4},
        {"int8", 1}, {"uint8", 1}, {"bool", 1}, {"int16", 2}, {"uint16", 2}, {"int32", 4}, {"uint32", 4},
        {"int64", 8}, {"uint64", 8}};
    size_t n = 1;
    std::smatch m;
    if (!sizes.count(type) && std::regex_match(type, m, std::regex("(.*)_(\\d+)"))) {
        n = std::stoul(m[2]);
        type = m[1];
    }
    auto it = sizes.find(type);
    return it == sizes.end() ? 4 * n : it->second * n;
}

static Signature signature_of(const std::string &hash) {
    std::ifstream file(out() + "/" + hash + ".cu");
    std::string text((std::istreambuf_iterator<char>(file)), {});
    Signature s;
    size_t global = text.find("__global__"), body = text.find("\n) {", global);
    if (global == std::string::npos || body == std::string::npos) return s;
    std::string arguments = text.substr(global, body - global);
    std::regex buffer("(?:const )?(\\w+)\\* (?:__restrict__ )?buffer_\\d+");
    for (std::sregex_iterator i(arguments.begin(), arguments.end(), buffer), end; i != end; ++i) s.elements.push_back(size_of((*i)[1]));
    // Strides and shapes come between the buffers and the structure, where there are any.
    s.position = s.elements.size() + (arguments.find(" dynamic_meta") != std::string::npos);
    size_t info = text.find("struct info_st {");
    if (info == std::string::npos || arguments.find("__grid_constant__ info_st info") == std::string::npos || arguments.find("CUtensorMap") != std::string::npos) return s;
    std::string fields = text.substr(info, text.find("};", info) - info);
    std::regex field("(\\w+) (\\w+)\\[(\\d+)\\];");
    for (std::sregex_iterator i(fields.begin(), fields.end(), field), end; i != end; ++i) {
        size_t size = size_of((*i)[1]);
        s.lengths = (s.lengths + size - 1) / size * size;
        if ((*i)[2] == "static_meta") {
            s.known = std::stoul((*i)[3]) >= s.elements.size();
            s.wide = size == 8;
            return s;
        }
        s.lengths += size * std::stoul((*i)[3]);
    }
    return s;
}

static size_t bytes_of(const Signature &s, void **arguments) {
    if (!s.known) return 0;
    const char *lengths = (const char *)arguments[s.position] + s.lengths;
    size_t bytes = 0;
    for (size_t i = 0; i < s.elements.size(); i++)
        bytes += s.elements[i] * (s.wide ? ((const uint64_t *)lengths)[i] : ((const uint32_t *)lengths)[i]);
    return bytes;
}
struct Program { std::string source, outp, log; };
API R cuLaunchKernel(Function *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, void *, void **arguments, void **) {
    char b[512];
    snprintf(b, 512, "L %s %s %u %u %u %u %u %u %u %zu %zu", f->name.c_str(), f->hash.c_str(), gx, gy, gz, bx, by, bz, shared, bytes_of(f->signature, arguments), held >> 20);
    say(b);
    if (gy > 65535 || gz > 65535 || !gx || !gy || !gz || bx * by * bz > 1024 || shared > 232448) { say("BAD LAUNCH"); return 1; }
    return 0;
}
API R cuInit(unsigned) { return 0; }
API R cuDriverGetVersion(int *v) { *v = 12090; return 0; }
API R cuDeviceGet(int *d, int i) { *d = i; return i ? 101 : 0; }
API R cuDeviceGetCount(int *n) { *n = 1; return 0; }
API R cuDeviceGetName(char *s, int n, int) { strncpy(s, "DRY H100", n); return 0; }
API R cuDeviceTotalMem_v2(size_t *b, int) { *b = (size_t)(getenv("DRY_MEM") ? atoi(getenv("DRY_MEM")) : 80) << 30; return 0; }
API R cuDeviceGetAttribute(int *v, int a, int) {
    switch (a) {
    case 1: *v = 1024; break;
    case 2: case 3: *v = 1024; break;
    case 4: *v = 64; break;
    case 5: *v = 2147483647; break;
    case 6: case 7: *v = 65535; break;
    case 8: *v = 49152; break;
    case 10: *v = 32; break;
    case 16: *v = 132; break;
    case 75: *v = 9; break;
    case 76: *v = 0; break;
    case 97: *v = 232448; break;
    default: *v = 0;
    }
    return 0;
}
API R cuDevicePrimaryCtxRetain(void **c, int) { *c = (void *)1; return 0; }
API R cuDevicePrimaryCtxRelease_v2(int) { return 0; }
API R cuCtxSetCurrent(void *) { return 0; }
API R cuCtxGetCurrent(void **c) { *c = (void *)1; return 0; }
API R cuCtxSynchronize() { say("S ctx"); return 0; }
API R cuStreamCreate(void **s, unsigned) { *s = (void *)2; return 0; }
API R cuStreamDestroy_v2(void *) { return 0; }
API R cuStreamSynchronize(void *) { say("S stream"); return 0; }
API R cuStreamWaitEvent(void *, void *, unsigned) { return 0; }
API R cuEventCreate(void **e, unsigned) { *e = (void *)3; return 0; }
API R cuEventDestroy_v2(void *) { return 0; }
API R cuEventRecord(void *, void *) { return 0; }
API R cuEventSynchronize(void *) { say("S event"); return 0; }
API R cuEventQuery(void *) { return 0; }
static R alloc(uint64_t *p, size_t n) {
    if (!n) n = 512;
    void *q = mmap(0, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (q == MAP_FAILED) return 2;
    std::lock_guard<std::mutex> g(lock);
    sizes[(uint64_t)q] = n; held += n;
    if (held > most) most = held;
    char b[128]; snprintf(b, 128, "A %zu held %zu most %zu", n, held >> 20, most >> 20); say(b);
    *p = (uint64_t)q; return 0;
}
static R release(uint64_t p) {
    std::lock_guard<std::mutex> g(lock);
    auto it = sizes.find(p); if (it == sizes.end()) return 1;
    held -= it->second; munmap((void *)p, it->second);
    char b[128]; snprintf(b, 128, "F %zu held %zu", it->second, held >> 20); say(b);
    sizes.erase(it); return 0;
}
API R cuMemAllocAsync(uint64_t *p, size_t n, void *) { return alloc(p, n); }
API R cuMemAlloc_v2(uint64_t *p, size_t n) { return alloc(p, n); }
API R cuMemFreeAsync(uint64_t p, void *) { return release(p); }
API R cuMemFree_v2(uint64_t p) { return release(p); }
API R cuMemAllocHost_v2(void **p, size_t n) { *p = mmap(0, n ? n : 512, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0); return 0; }
API R cuMemFreeHost(void *) { return 0; }
API R cuMemGetInfo_v2(size_t *f, size_t *t) { *f = (size_t)79 << 30; *t = (size_t)80 << 30; return 0; }
API R cuMemcpyHtoDAsync_v2(uint64_t, const void *, size_t n, void *) { say("H2D " + std::to_string(n)); return 0; }
API R cuMemcpyDtoHAsync_v2(void *d, uint64_t, size_t n, void *) { say("D2H " + std::to_string(n)); memset(d, 0, n); return 0; }
API R cuMemcpyDtoDAsync_v2(uint64_t, uint64_t, size_t n, void *) { say("D2D " + std::to_string(n)); return 0; }
struct Copy2D { size_t sx, sy; unsigned st; const void *sh; uint64_t sd; void *sa; size_t sp; size_t dx, dy; unsigned dt; void *dh; uint64_t dd; void *da; size_t dp; size_t w, h; };
API R cuMemcpy2DAsync_v2(const Copy2D *c, void *) {
    say(std::string(c->dt == 1 ? "D2H2D " : "H2D2D ") + std::to_string(c->w * c->h));
    if (c->dt == 1) for (size_t y = 0; y < c->h; y++) memset((char *)c->dh + y * c->dp, 0, c->w);
    return 0;
}
API R cuFuncSetAttribute(void *, int, int) { return 0; }
API R cuGetErrorName(R, const char **s) { *s = "DRY_ERROR"; return 0; }
API R cuGetErrorString(R, const char **s) { *s = "error of the dry run"; return 0; }
API R cuModuleLoadData(void **m, const void *image) { *m = strdup((const char *)image); return 0; }
API R cuModuleUnload(void *) { return 0; }
API R cuModuleGetFunction(void **f, void *m, const char *name) { *f = new Function{name, (const char *)m, signature_of((const char *)m)}; return 0; }
API R nvrtcVersion(int *a, int *b) { *a = 12; *b = 9; return 0; }
API const char *nvrtcGetErrorString(R) { return "error of the dry run"; }
API R nvrtcCreateProgram(Program **p, const char *s, const char *, int, const char **, const char **) { *p = new Program{s}; return 0; }
API R nvrtcDestroyProgram(Program **p) { delete *p; return 0; }
API R nvrtcCompileProgram(Program *p, int n, const char **opts) {
    size_t h = std::hash<std::string>()(p->source);
    char name[64]; snprintf(name, 64, "%016zx", h);
    p->outp = name;
    std::string file = out() + "/" + name + ".cu";
    if (access(file.c_str(), R_OK)) { std::ofstream o(file); o << p->source; std::string all; for (int i = 0; i < n; i++) all += std::string(" ") + opts[i]; say("C " + p->outp + all); }
    return 0;
}
API R nvrtcGetProgramLogSize(Program *p, size_t *n) { *n = p->log.size() + 1; return 0; }
API R nvrtcGetProgramLog(Program *p, char *s) { strcpy(s, p->log.c_str()); return 0; }
API R nvrtcGetPTXSize(Program *p, size_t *n) { *n = p->outp.size() + 1; return 0; }
API R nvrtcGetPTX(Program *p, char *s) { strcpy(s, p->outp.c_str()); return 0; }
API R cuTensorMapEncodeTiled() { return 0; }
API R cuTensorMapEncodeIm2col() { return 0; }
API R cuTensorMapEncodeIm2colWide() { return 0; }
