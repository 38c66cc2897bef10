/* Every form of instruction that touches memory, on pages that two threads share.
 *
 * For each form a line: its name, the flags, the general registers and a hash of
 * vector registers and memory after it.  A second thread reads the same words
 * all the while, and writes none, so the lines are the same under every schedule.
 * The two pages of the arena are a file's, touched in reverse order: an operand that lies in
 * both is in two pieces.
 *
 * args: the forms to run, by name (default: all but the refused ones).
 * variants: static
 * cflags: -no-pie -Wl,--defsym=arena=0x10000000,--defsym=edge=0x10001000
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ARENA 0x10000000UL
#define EDGE (ARENA + 0x1000) /* the linker knows both as symbols */

struct state {
    uint64_t rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, flags;
    uint8_t xmm[64];
};
struct state in __attribute__((aligned(64))), out __attribute__((aligned(64)));
uint64_t saved_rsp;

/* clang-format off */

/* name, instructions: between them the registers are as `in` says, and go to `out`. */
#define FORM(name, text) \
    __asm__(".text\n.globl form_" #name "\nform_" #name ":\n" \
            "push %rbx\npush %rbp\n" \
            "movdqa in+96(%rip),%xmm0\nmovdqa in+112(%rip),%xmm1\n" \
            "movdqa in+128(%rip),%xmm2\nmovdqa in+144(%rip),%xmm3\n" \
            "mov in+88(%rip),%rax\npush %rax\npopfq\n" \
            "mov in(%rip),%rax\nmov in+8(%rip),%rbx\nmov in+16(%rip),%rcx\n" \
            "mov in+24(%rip),%rdx\nmov in+32(%rip),%rsi\nmov in+40(%rip),%rdi\n" \
            "mov in+48(%rip),%rbp\nmov in+56(%rip),%r8\nmov in+64(%rip),%r9\n" \
            "mov in+72(%rip),%r10\nmov in+80(%rip),%r11\n" \
            "mov %rsp,saved_rsp(%rip)\n" text "\n" \
            "mov saved_rsp(%rip),%rsp\n" \
            "pushfq\ncld\nmov %rax,out(%rip)\npop %rax\nmov %rax,out+88(%rip)\n" \
            "mov %rbx,out+8(%rip)\nmov %rcx,out+16(%rip)\n" \
            "mov %rdx,out+24(%rip)\nmov %rsi,out+32(%rip)\nmov %rdi,out+40(%rip)\n" \
            "mov %rbp,out+48(%rip)\nmov %r8,out+56(%rip)\nmov %r9,out+64(%rip)\n" \
            "mov %r10,out+72(%rip)\nmov %r11,out+80(%rip)\n" \
            "movdqa %xmm0,out+96(%rip)\nmovdqa %xmm1,out+112(%rip)\n" \
            "movdqa %xmm2,out+128(%rip)\nmovdqa %xmm3,out+144(%rip)\n" \
            "pop %rbp\npop %rbx\nret\n"); \
    void form_##name(void);

#define ALL(F) \
    /* moves: sizes, high byte registers, addressing */ \
    F(mov8, "mov (%rbx),%al\nmov %dl,1(%rbx)") \
    F(mov8_high, "mov (%rbx),%ah\nmov %dh,3(%rbx)\nmov 2(%rbx),%ch") \
    F(mov8_rex, "mov (%rbx),%sil\nmov %r10b,5(%rbx)") \
    F(mov16, "mov (%rbx),%ax\nmov %dx,6(%rbx)") \
    F(mov32, "mov (%rbx),%eax\nmov %edx,12(%rbx)") \
    F(mov64, "mov (%rbx),%rax\nmov %rdx,16(%rbx)") \
    F(mov_imm, "movb $0x81,(%rbx)\nmovw $0x8182,2(%rbx)\nmovl $0x81828384,4(%rbx)\n" \
               "movq $-3,8(%rbx)") \
    F(mov_sib, "mov 8(%rbx,%r8,8),%rax\nmov %r10,-8(%rbx,%r8,4)\nmov (%rbx,%r8),%r11d") \
    F(mov_rip, "mov arena+0x110(%rip),%rax\nmov %r10,arena+0x118(%rip)\n" \
               "movl $77,arena+0x11c(%rip)") \
    F(mov_absolute, "mov arena+0x120,%rax\nmov %r10w,arena+0x122") \
    F(mov_index_only, "mov arena+0x100(,%r8,8),%rax\nmov %al,arena+0x105(,%r8,4)") \
    F(mov_fs, "mov %fs:(%r9),%rax\nadd %r10,%fs:8(%r9)\nmov %fs:(%r9,%r8,8),%cl") \
    F(mov_rbp, "mov 8(%rbp),%rax\nmov %eax,12(%rbp)") \
    F(movabs, "mov %r10,%rax\nmovabs %rax,0x10000148\nmovabs 0x10000150,%al") \
    F(movzx, "movzbl (%rbx),%eax\nmovzwl 2(%rbx),%ecx\nmovzbw 4(%rbx),%dx") \
    F(movsx, "movsbq (%rbx),%rax\nmovslq 4(%rbx),%rcx\nmovswl 2(%rbx),%edx") \
    F(movbe_bswap, "mov (%rbx),%rax\nbswap %rax\nmov %rax,8(%rbx)") \
    F(movnti, "movnti %r10,24(%rbx)\nsfence") \
    F(cmov, "cmp %rax,%rax\ncmove (%rbx),%rdx\ncmovne 8(%rbx),%rcx") \
    F(setcc, "cmp $1,%rcx\nseta (%rbx)\nsetb 1(%rbx)") \
    /* arithmetic: read, and read and write */ \
    F(add8, "add %dl,(%rbx)\nadd 1(%rbx),%al\nadc %dh,2(%rbx)") \
    F(add16, "add %dx,(%rbx)\nadcw $0x1234,2(%rbx)") \
    F(add32, "add %edx,(%rbx)\nadcl $-1,4(%rbx)") \
    F(add64, "add %rdx,(%rbx)\nadc $-1,%rax\nadcq $0x7fffffff,8(%rbx)") \
    F(sub_sbb, "sub %rdx,(%rbx)\nsbb %eax,8(%rbx)\nsbb 12(%rbx),%cx") \
    F(logic, "and %rdx,(%rbx)\nor %r10d,8(%rbx)\nxor %al,12(%rbx)\ntest %rdx,16(%rbx)") \
    F(cmp, "cmp %rdx,(%rbx)") \
    F(cmp_imm, "cmpb $0x80,3(%rbx)") \
    F(inc_dec, "incq (%rbx)\ndecl 8(%rbx)\nincb 12(%rbx)") \
    F(not_neg, "notq (%rbx)\nnegl 8(%rbx)\nnegb 12(%rbx)") \
    F(shifts, "shlq $3,(%rbx)\nsarl %cl,8(%rbx)\nrcrw $1,12(%rbx)\nrolb %cl,14(%rbx)") \
    F(shld, "shld $5,%rdx,(%rbx)\nshrd %cl,%edx,8(%rbx)") \
    F(mul, "mulq (%rbx)") \
    F(imul, "imul 8(%rbx),%rdx\nimul $77,(%rbx),%ecx\nimulb 3(%rbx)") \
    F(div, "xor %edx,%edx\nmovl $7,(%rbx)\ndivl (%rbx)\nmov %eax,4(%rbx)") \
    F(bit_imm, "btq $5,(%rbx)\nbtsl $7,8(%rbx)\nbtrw $3,12(%rbx)\nbtcq $60,16(%rbx)") \
    F(bit_near, "mov $9,%ecx\nbts %ecx,(%rbx)\nbt %rcx,8(%rbx)") \
    F(bit_far, "mov $515,%ecx\nbts %rcx,(%rbx)\nmov $-70,%rax\nbtc %rax,64(%rbx)\n" \
               "mov $77,%edx\nbtr %edx,(%rbx)\nmov $-9,%esi\nbts %si,32(%rbx)\n" \
               "mov $200,%r10\nbt %r10,(%rbx)") \
    F(bit_scan, "bsf (%rbx),%rax\nbsr 8(%rbx),%ecx\npopcnt (%rbx),%rdx") \
    /* indivisible ones */ \
    F(xchg, "xchg %rax,(%rbx)\nxchg %cl,9(%rbx)\nxchg %dx,10(%rbx)") \
    F(lock_add, "lock addq $5,(%rbx)\nlock incl 8(%rbx)\nlock orb $1,12(%rbx)") \
    F(lock_bts, "lock btsq $11,(%rbx)\nmov $300,%ecx\nlock bts %rcx,(%rbx)") \
    F(xadd, "lock xadd %rax,(%rbx)\nxadd %ecx,8(%rbx)") \
    F(cmpxchg_fails, "lock cmpxchg %rdx,(%rbx)\ncmpxchg %ecx,8(%rbx)") \
    F(cmpxchg_succeeds, "mov (%rbx),%rax\nlock cmpxchg %rdx,(%rbx)\nmov 8(%rbx),%eax\n" \
                        "cmpxchg %ecx,8(%rbx)\nmov 3(%rbx),%al\ncmpxchg %dh,3(%rbx)") \
    F(cmpxchg8b, "mov (%rbx),%eax\nmov 4(%rbx),%edx\npush %rbx\nmov %rbx,%rsi\n" \
                 "mov $0x55,%ebx\nlock cmpxchg8b (%rsi)\npop %rbx") \
    F(cmpxchg16b, "mov %rbx,%rsi\nmov (%rsi),%rax\nmov 8(%rsi),%rdx\nmov $0x66,%ebx\n" \
                  "lock cmpxchg16b (%rsi)\nmov %rsi,%rbx") \
    F(cmpxchg16b_fails, "mov %rbx,%rsi\nmov $0x66,%ebx\nlock cmpxchg16b (%rsi)\nmov %rsi,%rbx") \
    F(cmpxchg16b_unlocked, "mov %rbx,%rsi\nmov (%rsi),%rax\nmov 8(%rsi),%rdx\nmov $0x67,%ebx\n" \
                           "cmpxchg16b (%rsi)\nmov %rsi,%rbx") \
    /* strings */ \
    F(movsb, "movsb\nmovsb") \
    F(movsw, "movsw") \
    F(movsl, "movsl") \
    F(movsq, "movsq") \
    F(movsq_down, "std\nmovsq\nmovsb") \
    F(rep_movsb, "mov $21,%ecx\nrep movsb") \
    F(rep_movsb_down, "std\nmov $21,%ecx\nrep movsb") \
    F(rep_movsq, "rep movsq") \
    F(rep_movs_none, "xor %ecx,%ecx\nrep movsb\nrep movsq") \
    F(rep_movsb_overlap, "mov %rsi,%rdi\nadd $3,%rdi\nmov $20,%ecx\nrep movsb") \
    F(stos, "stosb\nstosw\nstosl\nstosq") \
    F(rep_stosb, "mov $19,%ecx\nrep stosb") \
    F(rep_stosl_down, "std\nrep stosl") \
    F(lodsb, "lodsb") \
    F(lodsw, "lodsw") \
    F(lodsl, "lodsl") \
    F(lodsq, "lodsq") \
    F(rep_lodsw, "rep lodsw") \
    F(cmpsb, "cmpsb") \
    F(cmpsw, "cmpsw") \
    F(cmpsl, "cmpsl") \
    F(cmpsq, "cmpsq") \
    F(repe_cmpsb_equal, "mov %rsi,%rdi\nmov $17,%ecx\nrepe cmpsb") \
    F(repe_cmpsb_differs, "mov (%rsi),%rax\nmov %rax,(%rdi)\nmov $17,%ecx\nrepe cmpsb") \
    F(repe_cmpsq_down, "std\nmov %rsi,%rdi\nrepe cmpsq") \
    F(repne_cmpsb, "mov $17,%ecx\nrepne cmpsb") \
    F(repe_cmps_none, "xor %ecx,%ecx\nstc\nrepe cmpsb") \
    F(scasb, "scasb") \
    F(scasw, "scasw") \
    F(scasl, "scasl") \
    F(scasq, "scasq") \
    F(repne_scasb, "movb $0x5a,13(%rdi)\nmov $0x5a,%al\nmov $-1,%rcx\nrepne scasb") \
    F(repe_scasw, "mov (%rdi),%ax\nmov %ax,2(%rdi)\nrepe scasw") \
    F(scas_parity, "movb $3,(%rdi)\nmov $0x10,%al\nscasb") \
    F(movsb_fs, "mov %r9,%rsi\nfs movsb\nmov $5,%ecx\nrep movsb %fs:(%rsi),%es:(%rdi)") \
    F(rep_movsq_edge, "lea edge-19,%rsi\nmov $5,%ecx\nrep movsq") \
    F(rep_stosq_edge, "lea edge-11,%rdi\nrep stosq") \
    F(cmpsq_edge, "lea edge-3,%rdi\nrepe cmpsq") \
    /* the stack is shared */ \
    F(push_pop, "lea arena+0x240,%rsp\npush %rax\npush %rsp\npush $-2\npush $0x12345678\n" \
                "pop %rcx\npop %rdx\npop %r10\npop %r11") \
    F(pop_rsp, "lea arena+0x240,%rsp\npush %rsp\npop %rsp\nmov %rsp,%rax") \
    F(push_mem, "lea arena+0x240,%rsp\npush (%rbx)\npush 8(%rsp)\nmov %rsp,%rax") \
    F(call_ret, "lea arena+0x240,%rsp\ncall 1f\njmp 2f\n1: mov %rsp,%rax\nmov (%rsp),%rdx\n" \
                "sub $2f,%rdx\nret\n2: mov %rsp,%rcx") \
    F(call_reg, "lea arena+0x240,%rsp\nmov $1f,%rax\ncall *%rax\njmp 2f\n1: ret\n" \
                "2: mov %rsp,%rcx\nxor %eax,%eax\nmov %rax,-8(%rsp)") \
    F(call_mem, "lea arena+0x240,%rsp\nmov $1f,%rax\nmov %rax,(%rbx)\npush %rcx\ncall *(%rbx)\n" \
                "jmp 2f\n1: ret $8\n2: mov %rsp,%rcx\nxor %eax,%eax\nmov %rax,(%rbx)\n" \
                "mov %rax,-16(%rsp)") \
    F(call_through_stack, "lea arena+0x240,%rsp\nmov $1f,%rax\npush %rax\ncall *(%rsp)\njmp 2f\n" \
                          "1: ret\n2: mov %rsp,%rcx\nxor %eax,%eax\nmov %rax,(%rsp)\n" \
                          "mov %rax,-8(%rsp)") \
    F(jmp_mem, "mov $1f,%rax\nmov %rax,(%rbx)\njmp *(%rbx)\nud2\n1: movq $9,(%rbx)\n" \
               "xor %eax,%eax") \
    F(leave, "lea arena+0x240,%rsp\npush %rbp\nmov %rsp,%rbp\nsub $32,%rsp\nleave\n" \
             "mov %rsp,%rax") \
    F(push_edge, "lea edge+4,%rsp\npush %rax\npop %rdx\nmov %rsp,%rcx") \
    /* vectors, x87 */ \
    F(sse, "movaps (%rbx),%xmm0\npaddq 16(%rbx),%xmm0\nmovups %xmm0,33(%rbx)\n" \
           "movntps %xmm1,64(%rbx)") \
    F(sse_partial, "movsd (%rbx),%xmm0\nmovss 8(%rbx),%xmm1\nmovq %xmm2,16(%rbx)\n" \
                   "movhps %xmm3,24(%rbx)\nmovlps 32(%rbx),%xmm3\npinsrw $3,2(%rbx),%xmm2\n" \
                   "movd %xmm0,40(%rbx)") \
    F(sse_convert, "movl $3,(%rbx)\ncvtsi2sdl (%rbx),%xmm0\nmovsd %xmm0,8(%rbx)\n" \
                   "cvttsd2si 8(%rbx),%rax\nucomisd 8(%rbx),%xmm0") \
    F(pshufb, "pxor %xmm0,%xmm0\npcmpeqb (%rbx),%xmm0\npmovmskb %xmm0,%eax\npunpcklbw 16(%rbx),%xmm1") \
    F(avx, "vmovdqu (%rbx),%ymm0\nvpaddd 32(%rbx),%ymm0,%ymm0\nvmovdqu %ymm0,65(%rbx)\n" \
           "vextracti128 $1,%ymm0,%xmm1\nvzeroupper") \
    F(avx_broadcast, "vpbroadcastq 8(%rbx),%ymm2\nvmovdqa %ymm2,32(%rbx)\nvzeroupper") \
    F(sse_edge, "movups edge-7,%xmm0\nmovups %xmm1,edge-5") \
    F(avx_edge, "vmovdqu edge-13,%ymm0\nvextracti128 $1,%ymm0,%xmm1\nvmovdqu %ymm0,edge-27\n" \
                "vzeroupper") \
    F(x87, "fildl (%rbx)\nfiaddl 4(%rbx)\nfistpll 8(%rbx)\nfld1\nfstpt 32(%rbx)\nfldt 32(%rbx)\n" \
           "fstpl 48(%rbx)\nfnstcw 56(%rbx)\nfldcw 56(%rbx)\nfnstsw 58(%rbx)") \
    F(mxcsr, "stmxcsr (%rbx)\nldmxcsr (%rbx)") \
    F(fxsave, "mov arena+0x260,%rax\nfxsave arena+0x100\nfxrstor arena+0x100\n" \
              "lea arena+0x100,%rdi\nmov $64,%ecx\nxor %eax,%eax\nrep stosq") \
    F(crc32, "crc32q (%rbx),%rax\ncrc32b 9(%rbx),%ecx") \
    F(bmi, "andn (%rbx),%rdx,%rax\nbextr %rcx,8(%rbx),%rdx\nrorx $7,(%rbx),%rsi\n" \
           "shlx %rcx,(%rbx),%rdi\npext 8(%rbx),%r10,%r11") \
    F(adx, "mulx (%rbx),%rax,%rcx") \
    /* unaligned: two words, two pages */ \
    F(unaligned, "mov 5(%rbx),%rax\nadd %rdx,13(%rbx)\nlock addl $3,22(%rbx)") \
    F(edge_read, "mov edge-3,%rax\nmov edge-1,%cx\nmov edge-2,%edx") \
    F(edge_write, "mov %rax,edge-3\nmovw $0x4142,edge-1\nmovl $-5,edge-2") \
    F(edge_update, "add %rax,edge-3\nincw edge-1\nxchg %edx,edge-2") \
    F(edge_around, "mov %rax,edge-8\nmov %rdx,edge\nadd edge-8,%rcx\nadd %rcx,edge")

/* What the watched machine refuses to run on shared memory, by name. */
#define REFUSED(F) \
    F(addr32, "addr32 rep movsb") \
    F(pop_mem, "push %rax\npop (%rbx)") \
    F(pushf, "lea arena+0x240,%rsp\npushfq") \
    F(push16, "lea arena+0x240,%rsp\npushw $7") \
    F(enter, "lea arena+0x240,%rsp\nenter $16,$0") \
    F(xlat, "xor %eax,%eax\nxlatb") \
    F(xsave, "mov $3,%eax\nxor %edx,%edx\nxsave arena+0x100") \
    F(maskmov, "maskmovdqu %xmm1,%xmm0") \
    F(gather, "pxor %xmm1,%xmm1\npcmpeqd %xmm2,%xmm2\nvpgatherdd %xmm2,(%rbx,%xmm1,4),%xmm0")

/* clang-format on */

ALL(FORM)
REFUSED(FORM)

static const struct form {
    const char *name;
    void (*run)(void);
    int refused;
} forms[] = {
#define ENTRY(name, text) {#name, form_##name, 0},
#define REFUSED_ENTRY(name, text) {#name, form_##name, 1},
    ALL(ENTRY) REFUSED(REFUSED_ENTRY)};

static uint64_t hash_of(uint64_t hash, const void *data, size_t n) {
    const uint64_t *word = data;
    for (size_t i = 0; i < n / 8; i++) {
        hash = (hash ^ word[i]) * 0x9e3779b97f4a7c15UL;
        hash ^= hash >> 31;
    }
    return hash;
}

static uint64_t memory(void) {
    return hash_of(hash_of(1, (void *)(ARENA + 0x100), 0x200), (void *)(EDGE - 0x40), 0x80);
}

static void fill(void) {
    for (uint64_t *p = (uint64_t *)(EDGE + 0x38); p >= (uint64_t *)(EDGE - 0x40); p--)
        *p = (uintptr_t)p * 0x9e3779b97f4a7c15UL;
    for (uint64_t *p = (uint64_t *)(ARENA + 0x100); p < (uint64_t *)(ARENA + 0x300); p++)
        *p = (uintptr_t)p * 0x9e3779b97f4a7c15UL;
}

static volatile uint64_t sink;

static void *mate(void *arg) {
    fill();
    pthread_barrier_wait(arg);
    for (int i = 0; i < 500; i++)
        sink += *(volatile uint64_t *)(i % 5 ? ARENA + 0x100 + 8 * (i % 64)
                                             : EDGE - 0x40 + 8 * (i % 16));
    pthread_barrier_wait(arg);
    return 0;
}

static void run(const struct form *form) {
    uint64_t fs;
    __asm__("mov %%fs:0,%0" : "=r"(fs));
    memset(&out, 0, sizeof out);
    in = (struct state){.rax = 0x1122334455667788,
                        .rbx = ARENA + 0x100,
                        .rcx = 3,
                        .rdx = 0x99aabbccddeeff00,
                        .rsi = ARENA + 0x180,
                        .rdi = ARENA + 0x200,
                        .rbp = ARENA + 0x140,
                        .r8 = 2,
                        .r9 = ARENA + 0x100 - fs,
                        .r10 = 0x0f1e2d3c4b5a6978,
                        .r11 = 0x123456789abcdef0,
                        .flags = 0x202};
    for (unsigned i = 0; i < 64; i++)
        in.xmm[i] = 7 * i + 1;
    form->run();
    out.r9 -= in.r9; /* wherever the thread pointer is */
    if (out.rsi - in.r9 < 0x1000 && in.rsi != out.rsi)
        out.rsi -= in.r9;
    printf("%-20s %04lx %016lx %016lx %016lx %016lx %016lx %016lx %016lx %016lx %016lx %016lx "
           "%016lx %016lx %016lx\n",
           form->name, out.flags & 0xcd5, out.rax, out.rbx, out.rcx, out.rdx, out.rsi, out.rdi,
           out.rbp, out.r8, out.r9, out.r10, out.r11, hash_of(1, out.xmm, sizeof out.xmm),
           memory());
}

int main(int argc, char **argv) {
    int file = memfd_create("arena", 0);
    ftruncate(file, 0x2000);
    for (int page = 0; page < 2; page++)
        if (mmap((void *)(ARENA + 0x1000 * page), 0x1000, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_FIXED, file, 0x1000 * page) == MAP_FAILED)
            return perror("mmap"), 1;
    static pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, 0, 2);
    pthread_t other;
    pthread_create(&other, 0, mate, &barrier);
    pthread_barrier_wait(&barrier);
    static char buffer[1 << 16];
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    for (const struct form *form = forms; form < forms + sizeof forms / sizeof *forms; form++) {
        int wanted = argc < 2 && !form->refused;
        for (int i = 1; i < argc; i++)
            wanted |= !strcmp(argv[i], form->name);
        if (wanted)
            run(form);
    }
    pthread_barrier_wait(&barrier);
    pthread_join(other, 0);
    return 0;
}
