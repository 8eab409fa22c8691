// A CUDA driver and NVRTC that run kernels on the CPU: kernel text is compiled by g++, a block is a
// set of fibers.
#include "include/emu.h"
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <fstream>
#include <map>
#include <mutex>
#include <regex>
#include <sstream>
#include <string>
#include <sys/mman.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>
#include <vector>
#define API extern "C" __attribute__((visibility("default")))
typedef int R;

// ---- fibers
extern "C" void emu_switch(void **from, void *to);
asm(R"(
.globl emu_switch
emu_switch:
  push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15
  sub $8, %rsp
  stmxcsr (%rsp)
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  ldmxcsr (%rsp)
  add $8, %rsp
  pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp
  ret
)");
static const size_t STACK = 1 << 18;
struct Fiber {
    EmuThread t;
    void *sp;
    char *stack;
    bool done;
};
struct Barrier {
    int arrived = 0;
    unsigned gen = 0;
};
struct Block {
    EmuContext ctx;
    void *main_sp;
    std::vector<Fiber> fibers;
    int n, alive;
    int now;
    Barrier all;
    std::vector<Barrier> warps;
    std::vector<int> warp_alive;
    std::vector<EmuWarp> slots;
    void (*invoke)(void **);
    void **params;
};
static thread_local Block *block;
static void to_main() {
    Fiber &f = block->fibers[block->now];
    emu_switch(&f.sp, block->main_sp);
}
static void check(Barrier &b, int alive) {
    if (b.arrived && b.arrived >= alive) {
        b.arrived = 0;
        b.gen++;
    }
}
static void wait_at(Barrier &b, int alive_now) {
    unsigned gen = b.gen;
    b.arrived++;
    check(b, alive_now);
    while (b.gen == gen) to_main();
}
static void sync_all() { wait_at(block->all, block->alive); }
static void sync_warp() {
    int w = block->now / 32;
    wait_at(block->warps[w], block->warp_alive[w]);
}
static EmuWarp *warp_slots() { return &block->slots[block->now / 32]; }
static void enter() {
    Block *b = block;
    int me = b->now;
    b->invoke(b->params);
    Fiber &f = b->fibers[me];
    f.done = true;
    b->alive--;
    b->warp_alive[me / 32]--;
    check(b->all, b->alive);
    check(b->warps[me / 32], b->warp_alive[me / 32]);
    to_main();
    abort();
}
static thread_local std::vector<char *> stacks;
static void run_block(Block &b, EmuDim idx) {
    block = &b;
    b.alive = b.n;
    b.all = Barrier();
    b.ctx.block = idx;
    int warps = (b.n + 31) / 32;
    b.warps.assign(warps, Barrier());
    b.slots.resize(warps);
    b.warp_alive.assign(warps, 32);
    if (b.n % 32)
        b.warp_alive[warps - 1] = b.n % 32;
    b.fibers.resize(b.n);
    while ((int)stacks.size() < b.n)
        stacks.push_back((char *)mmap(0, STACK, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    for (int i = 0; i < b.n; i++) {
        Fiber &f = b.fibers[i];
        f.done = false;
        f.stack = stacks[i];
        f.t.idx = {i % b.ctx.dim.x, i / b.ctx.dim.x % b.ctx.dim.y, i / (b.ctx.dim.x * b.ctx.dim.y)};
        f.t.lane = i % 32;
        uint64_t *top = (uint64_t *)(f.stack + STACK - 64);
        *--top = 0;
        *--top = (uint64_t)enter;
        for (int k = 0; k < 6; k++) *--top = 0;
        *--top = 0x1f80;
        f.sp = top;
    }
    int left = b.n;
    long idle = 0;
    while (left) {
        left = 0;
        for (int i = 0; i < b.n; i++)
            if (!b.fibers[i].done) {
                b.now = i;
                b.ctx.cur = &b.fibers[i].t;
                emu_switch(&b.main_sp, b.fibers[i].sp);
                left += !b.fibers[i].done;
            }
        if (++idle > 50000000) {
            fprintf(stderr, "EMU: deadlock\n");
            abort();
        }
    }
}
struct Function {
    void (*invoke)(void **);
    void (*bind)(EmuContext *);
    std::string name;
};
API R cuLaunchKernel(Function *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                     unsigned bz, unsigned shared, void *, void **params, void **) {
    size_t total = (size_t)gx * gy * gz;
    static bool trace = getenv("EMU_TRACE") && *getenv("EMU_TRACE");
    if (trace)
        fprintf(stderr, "EMU %s grid %u %u %u block %u %u %u shared %u\n", f->name.c_str(), gx, gy,
                gz, bx, by, bz, shared);
    if (bx * by * bz > 1024 || !total)
        return 1;
    std::atomic<size_t> next{0};
    auto work = [&] {
        Block b;
        b.n = bx * by * bz;
        b.invoke = f->invoke;
        b.params = params;
        std::vector<char> mem(shared + 256, (char)0xcd);
        b.ctx.shared = (unsigned char *)(((uintptr_t)mem.data() + 127) & ~(uintptr_t)127);
        b.ctx.dim = {bx, by, bz};
        b.ctx.grid = {gx, gy, gz};
        b.ctx.sync_all = sync_all;
        b.ctx.sync_warp = sync_warp;
        b.ctx.yield = to_main;
        b.ctx.warp = warp_slots;
        f->bind(&b.ctx);
        for (size_t i; (i = next++) < total;) {
            memset(b.ctx.shared, 0xcd, shared);
            run_block(b, {(unsigned)(i % gx), (unsigned)(i / gx % gy), (unsigned)(i / gx / gy)});
        }
        f->bind(nullptr);
    };
    if (total == 1) {
        work();
        return 0;
    }
    std::thread other(work);
    work();
    other.join();
    return 0;
}
// ---- the rest of the driver
API R cuInit(unsigned) { return 0; }
API R cuDriverGetVersion(int *v) {
    *v = 12080;
    return 0;
}
API R cuDeviceGet(int *d, int i) {
    *d = i;
    return i ? 101 : 0;
}
API R cuDeviceGetCount(int *n) {
    *n = 1;
    return 0;
}
API R cuDeviceGetName(char *s, int n, int) {
    strncpy(s, "CPU", n);
    return 0;
}
// EMU_MEMORY: memory of the device in MiB.
static size_t memory() {
    return (size_t)(getenv("EMU_MEMORY") ? atoi(getenv("EMU_MEMORY")) : 16 << 10) << 20;
}
API R cuDeviceTotalMem_v2(size_t *b, int) {
    *b = memory();
    return 0;
}
API R cuDeviceGetAttribute(int *v, int a, int) {
    switch (a) {
    case 1:
        *v = 1024;
        break;
    case 2:
    case 3:
        *v = 1024;
        break;
    case 4:
        *v = 64;
        break;
    case 5:
        *v = 2147483647;
        break;
    case 6:
    case 7:
        *v = 65535;
        break;
    case 8:
        *v = 49152;
        break;
    case 10:
        *v = 32;
        break;
    case 16:
        *v = 80;
        break;
    case 75:
        *v = getenv("EMU_SM") ? atoi(getenv("EMU_SM")) / 10 : 8;
        break;
    case 76:
        *v = getenv("EMU_SM") ? atoi(getenv("EMU_SM")) % 10 : 0;
        break;
    case 97:
        *v = 232448;
        break;
    default:
        *v = 0;
    }
    return 0;
}
API R cuDevicePrimaryCtxRetain(void **c, int) {
    *c = (void *)1;
    return 0;
}
API R cuDevicePrimaryCtxRelease_v2(int) { return 0; }
API R cuCtxSetCurrent(void *) { return 0; }
API R cuCtxGetCurrent(void **c) {
    *c = (void *)1;
    return 0;
}
API R cuCtxSynchronize() { return 0; }
API R cuStreamCreate(void **s, unsigned) {
    *s = (void *)2;
    return 0;
}
API R cuStreamDestroy_v2(void *) { return 0; }
API R cuStreamSynchronize(void *) { return 0; }
API R cuStreamWaitEvent(void *, void *, unsigned) { return 0; }
API R cuEventCreate(void **e, unsigned) {
    *e = (void *)3;
    return 0;
}
API R cuEventDestroy_v2(void *) { return 0; }
API R cuEventRecord(void *, void *) { return 0; }
API R cuEventSynchronize(void *) { return 0; }
API R cuEventQuery(void *) { return 0; }
static R alloc(uint64_t *p, size_t n) {
    void *q = 0;
    if (posix_memalign(&q, 512, n ? n : 512))
        return 2;
    memset(q, 0x7f, n);
    *p = (uint64_t)q;
    return 0;
}
API R cuMemAllocAsync(uint64_t *p, size_t n, void *) { return alloc(p, n); }
API R cuMemAlloc_v2(uint64_t *p, size_t n) { return alloc(p, n); }
API R cuMemFreeAsync(uint64_t p, void *) {
    free((void *)p);
    return 0;
}
API R cuMemFree_v2(uint64_t p) {
    free((void *)p);
    return 0;
}
API R cuMemAllocHost_v2(void **p, size_t n) {
    uint64_t q;
    R r = alloc(&q, n);
    *p = (void *)q;
    return r;
}
API R cuMemFreeHost(void *p) {
    free(p);
    return 0;
}
API R cuMemGetInfo_v2(size_t *f, size_t *t) {
    *f = memory() / 2;
    *t = memory();
    return 0;
}
static std::atomic<long> reads{0};
API long emu_reads() { return reads; }
API R cuMemcpyHtoDAsync_v2(uint64_t d, const void *s, size_t n, void *) {
    memcpy((void *)d, s, n);
    return 0;
}
API R cuMemcpyDtoHAsync_v2(void *d, uint64_t s, size_t n, void *) {
    reads++;
    memcpy(d, (void *)s, n);
    return 0;
}
API R cuMemcpyDtoDAsync_v2(uint64_t d, uint64_t s, size_t n, void *) {
    memcpy((void *)d, (void *)s, n);
    return 0;
}
struct Copy2D {
    size_t sx, sy;
    unsigned st;
    const void *sh;
    uint64_t sd;
    void *sa;
    size_t sp;
    size_t dx, dy;
    unsigned dt;
    void *dh;
    uint64_t dd;
    void *da;
    size_t dp;
    size_t w, h;
};
API R cuMemcpy2DAsync_v2(const Copy2D *c, void *) {
    const char *s = c->st == 1 ? (const char *)c->sh : (const char *)c->sd;
    char *d = c->dt == 1 ? (char *)c->dh : (char *)c->dd;
    if (c->dt == 1)
        reads++;
    s += c->sy * c->sp + c->sx;
    d += c->dy * c->dp + c->dx;
    for (size_t y = 0; y < c->h; y++) memcpy(d + y * c->dp, s + y * c->sp, c->w);
    return 0;
}
API R cuFuncSetAttribute(void *, int, int) { return 0; }
API R cuGetErrorName(R, const char **s) {
    *s = "EMU_ERROR";
    return 0;
}
API R cuGetErrorString(R, const char **s) {
    *s = "error of the emulator";
    return 0;
}
API R cuModuleLoadData(void **m, const void *image) {
    *m = dlopen((const char *)image, RTLD_NOW | RTLD_LOCAL);
    if (!*m) {
        fprintf(stderr, "EMU: %s\n", dlerror());
        return 1;
    }
    return 0;
}
API R cuModuleUnload(void *) { return 0; }
API R cuModuleGetFunction(void **f, void *m, const char *name) {
    auto *fn = new Function{(void (*)(void **))dlsym(m, "emu_invoke"),
                            (void (*)(EmuContext *))dlsym(m, "emu_bind"), name};
    *f = fn;
    return fn->invoke && fn->bind ? 0 : 1;
}
// ---- NVRTC
struct Program {
    std::string source, out, log;
};
API R nvrtcVersion(int *a, int *b) {
    *a = 12;
    *b = 8;
    return 0;
}
API const char *nvrtcGetErrorString(R) { return "error of the emulator"; }
API R nvrtcCreateProgram(Program **p, const char *s, const char *, int, const char **,
                         const char **) {
    *p = new Program{s};
    return 0;
}
API R nvrtcDestroyProgram(Program **p) {
    delete *p;
    return 0;
}
// `{before0, before1, ...}`
static std::string listed(const std::string &before, int n) {
    std::string s = "{";
    for (int i = 0; i < n; i++) s += (i ? ", " : "") + before + std::to_string(i);
    return s + "}";
}
// Puts calls of emu_mma.h where the instructions for matrices in registers are.
static void replace_matrices(std::string &s) {
    std::smatch m;
    std::regex ld("^asm volatile\\(\"ldmatrix\\.sync\\.aligned\\.m8n8\\.x([124])(\\.trans)?\\.shared::cta"
                  "\\.b16\""),
        mma("^asm volatile\\(\"mma\\.sync\\.aligned\\.m16n8k16\\.row\\.col\\.f32\\.(b?f16)\\.\\1\\.f32\"");
    for (size_t at = 0; (at = s.find("asm volatile", at)) != std::string::npos; at++) {
        size_t end = s.find(");\n", at);
        if (end == std::string::npos)
            return;
        std::string statement = s.substr(at, end - at), call;
        if (std::regex_search(statement, m, ld)) {
            call = "unsigned *to[] = " + listed("&reg_", std::stoi(m[1])) + "; emu_ldmatrix(to, " +
                   (m[2].matched ? "true" : "false") + ", row_addr";
        } else if (std::regex_search(statement, m, mma)) {
            call = "const unsigned a[] = " + listed("reg_a_", 4) + ", b[] = " + listed("reg_b_", 2) +
                   "; const float c[] = " + listed("reg_c_", 4) + "; float *d[] = " +
                   listed("&reg_d_", 4) + "; emu_mma<" +
                   (m[1] == "f16" ? "__half" : "__nv_bfloat16") + ">(a, b, c, d";
        } else {
            continue;
        }
        s.replace(at, end - at, call);
    }
}
// CubeCL's functions for asynchronous copies are those of include/cuda/barrier.
static void replace_copies(std::string &s) {
    size_t first = s.find("// Wrapper for https://docs.nvidia.com");
    size_t last = s.rfind("__cp_async_shared_global<16>(void const *src_ptr, void *smem_ptr)");
    if (first != std::string::npos && last != std::string::npos)
        s.erase(first, s.find("}", last) + 1 - first);
}
API R nvrtcCompileProgram(Program *p, int, const char **) {
    std::string s = p->source;
    std::smatch m;
    static std::string dir = getenv("EMU_CACHE") ? getenv("EMU_CACHE") : "/tmp/emu-cache";
    mkdir(dir.c_str(), 0755);
    // Matrix products of CubeCL rely on a warp in lockstep if they have any instructions.
    if (s.find("matmul_entry") == std::string::npos)
        replace_matrices(s), replace_copies(s);
    if (s.find("asm volatile") != std::string::npos) {
        p->log = "inline assembly";
        return 6;
    }
    size_t at = s.find("extern __shared__");
    if (at != std::string::npos) {
        size_t end = s.find(";", at);
        s.replace(at, end - at, "uint8* const dynamic_shared_mem = emu_ctx->shared");
    }
    std::regex sig("__launch_bounds__\\([0-9]+\\)\\s*(?:__cluster_dims__\\([^)]*\\)\\s*)?([A-Za-z_"
                   "0-9]+)\\s*\\(");
    if (!std::regex_search(s, m, sig)) {
        p->log = "no kernel";
        return 6;
    }
    s += "\nextern \"C\" void emu_invoke(void** p) { emu_call(" + m[1].str() + ", p); }\n";
    // Those matrix products rely on a warp in lockstep.
    if (m[1].str().find("matmul_entry") == 0 &&
        s.find("float_8 *shared_memory") != std::string::npos &&
        s.find("wmma") == std::string::npos) {
        p->log = "not in lockstep";
        return 6;
    }
    size_t h = std::hash<std::string>()(s);
    char name[64];
    snprintf(name, 64, "/%016zx", h);
    p->out = dir + name + ".so";
    if (access(p->out.c_str(), R_OK) == 0)
        return 0;
    std::string tmp =
        dir + name + "." + std::to_string(getpid()) + "." + std::to_string((size_t)pthread_self());
    {
        std::ofstream o(tmp + ".cpp");
        o << s;
    }
    const char *home = getenv("CUDA_PATH");
    std::string cmd = std::string("g++ -std=c++17 -O1 -w -fno-strict-aliasing -fPIC -shared -mf16c "
                                  "-mavx2 -mfma -ffp-contract=off -fvisibility=hidden -I") +
                      home + "/include -include emu.h " + tmp + ".cpp -o " + tmp + ".so 2> " + tmp +
                      ".log";
    int rc = system(cmd.c_str());
    std::ifstream l(tmp + ".log");
    std::stringstream ss;
    ss << l.rdbuf();
    p->log = ss.str().substr(0, 3000);
    if (rc) {
        if (getenv("EMU_TRACE") && *getenv("EMU_TRACE"))
            fprintf(stderr, "EMU: %s does not compile: %s\n", tmp.c_str(), p->log.c_str());
        return 6;
    }
    rename((tmp + ".so").c_str(), p->out.c_str());
    rename((tmp + ".cpp").c_str(), (dir + name + ".cpp").c_str());
    unlink((tmp + ".log").c_str());
    return 0;
}
API R nvrtcGetProgramLogSize(Program *p, size_t *n) {
    *n = p->log.size() + 1;
    return 0;
}
API R nvrtcGetProgramLog(Program *p, char *s) {
    strcpy(s, p->log.c_str());
    return 0;
}
API R nvrtcGetPTXSize(Program *p, size_t *n) {
    *n = p->out.size() + 1;
    return 0;
}
API R nvrtcGetPTX(Program *p, char *s) {
    strcpy(s, p->out.c_str());
    return 0;
}
API R cuTensorMapEncodeTiled() { return 801; }
API R cuTensorMapEncodeIm2col() { return 801; }
API R cuTensorMapEncodeIm2colWide() { return 801; }
