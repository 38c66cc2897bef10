/*
 * race.c - accesses to memory that tasks share, one by one.
 *
 * In a controlled machine a listed page (uvm_race.h) is never mapped for the
 * guest: each access faults into here.  The instruction is then run for the
 * guest: most as a copy of itself out of line, whose one operand is `gs:0`
 * with a gs base that is the operand's address in the writable window; stack
 * and string forms in C; a few single-stepped with the page open.
 *
 * Before an access to an active word there may be a choice point: it is
 * counted, and at `ask_at` (or when the task spins) the kernel is asked.  The
 * task then stands in a trap with its registers as they were before the
 * instruction; when it goes on, it faults again, and `passed` remembers which
 * points of this instruction are behind it.
 *
 * An update without a lock is two points: the copy works on a private buffer
 * (the old value) and ends in `int3`; there, after the second point, the new
 * value is stored.
 */
#include "race.h"

#include "hostcall.h"

#include <stddef.h>

#define PAGE_MASK (~(uint64_t)(UVM_PAGE_SIZE - 1))
#define EFLAGS_TF 0x100
#define EFLAGS_DF 0x400
#define EFLAGS_ARITHMETIC 0x8d5
#define CODE_SPLIT 32 /* within an instruction's code: the variant that ends in int3 */
#define NONE 16
#define STACK_BELOW 4096 /* bytes around the stack pointer that are a task's own affair */
#define STACK_ABOVE 65536

/* cmpxchg16b wants its operand aligned, and may run on a buffer. */
_Static_assert(offsetof(struct uvm_race_slot, buffer) % 16 == 0, "alignment of the buffers");
_Static_assert(sizeof(struct uvm_race_slot) % 16 == 0, "alignment of the slots");

/* The processor's register numbers -> places in the signal frame. */
static const uint8_t places[16] = {13, 14, 12, 11, 15, 10, 9, 8, 0, 1, 2, 3, 4, 5, 6, 7};

static uint64_t *reg(void *context, unsigned number) {
    return &UC_REG(context, places[number & 15]);
}

#define TABLE(type, field) UVM_RACE_TABLE(RACE, type, field)

static const struct uvm_race_insn *find_insn(uint64_t ip) {
    const struct uvm_race_insn *table = TABLE(const struct uvm_race_insn, insns_at);
    for (uint64_t i = uvm_race_mix(0, ip);; i++) {
        const struct uvm_race_insn *entry = &table[i & (UVM_RACE_INSNS - 1)];
        if (entry->ip == ip)
            return entry;
        if (!entry->ip)
            return 0;
    }
}

/* ---- who touches what */

/* Before the task runs guest code again: pages that others have taken leave its
 * Tlb. */
void race_drops(void) {
    struct uvm_race_slot *slot = RACE_SLOT;
    uint32_t n = slot->drop_count;
    if (!n)
        return;
    slot->drop_count = 0;
    if (n > UVM_RACE_DROPS) {
        tlb_drop_all();
        return;
    }
    for (uint32_t i = 0; i < n; i++)
        hostcall(__NR_munmap, slot->drops[i], UVM_PAGE_SIZE);
}

/* ---- the Tlb, from one execution to the next */

#define RACE_TLB (&TABLE(struct uvm_race_tlb, tlbs_at)[MAILBOX->slot])
#define PROT_BITS 7

void race_mapped(uint64_t addr, uint64_t length, uint64_t offset, int prot) {
    struct uvm_race_tlb *tlb = RACE_TLB;
    if (tlb->count < UVM_RACE_MAPPINGS)
        tlb->mappings[tlb->count] =
            (struct uvm_race_mapping){.addr = addr, .offset = offset | prot, .length = length};
    if (tlb->count <= UVM_RACE_MAPPINGS)
        tlb->count++;
}

void race_dropped_all(void) {
    RACE_TLB->count = 0;
}

/* Do the page tables still say what is mapped at all of m? */
static int still_true(const struct uvm_race_mapping *m) {
    const int prot = m->offset & PROT_BITS;
    uint64_t offset = m->offset & PAGE_MASK;
    struct walk walk;
    for (uint64_t addr = m->addr; addr < m->addr + m->length; addr += UVM_PAGE_SIZE) {
        if (addr == m->addr || walk.index == 511) {
            if (!tlb_walk(addr, UVM_PF_USER, &walk))
                return 0;
        } else { /* the next entry of the same table */
            walk.entry = walk.leaf[++walk.index];
            if (!(walk.entry & UVM_PTE_P) || !(walk.entry & UVM_PTE_U) || !(walk.entry & UVM_PTE_A))
                return 0;
        }
        const int writable = (walk.entry & UVM_PTE_W) && (walk.entry & UVM_PTE_D);
        if ((walk.entry & UVM_PTE_ADDR) != offset || ((prot & 2) && !writable) ||
            ((prot & 4) && (walk.entry & UVM_PTE_NX)))
            return 0;
        if ((walk.entry & UVM_PTE_W) && RACE->mode != UVM_RACE_OFF &&
            (RACE->mode != UVM_RACE_LISTED || uvm_race_is_listed(RACE, addr >> UVM_PAGE_SHIFT)))
            return 0;
        offset += UVM_PAGE_SIZE;
    }
    return 1;
}

void race_check_tlb(void) {
    struct uvm_race_tlb *tlb = RACE_TLB;
    if (!tlb->check)
        return;
    tlb->check = 0;
    if (tlb->count > UVM_RACE_MAPPINGS) {
        tlb_drop_all();
        return;
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < tlb->count; i++) {
        struct uvm_race_mapping m = tlb->mappings[i];
        if (still_true(&m))
            tlb->mappings[kept++] = m;
        else
            hostcall(__NR_munmap, m.addr, m.length);
    }
    tlb->count = kept;
}

/* ---- one access */

struct operand {
    uint64_t addr;
    uint32_t size;
    uint8_t kind;      /* UVM_EVENT_READ ... */
    uint8_t active;    /* touches an active word */
    uint8_t cow;       /* in a page that a fork has left to be copied */
    uint8_t *at;       /* in the writable window: the first `head` bytes, */
    uint8_t *rest;     /* and those of the next page, if that is not the next frame */
    uint32_t head;
};

static void __attribute__((noreturn)) ask(uint32_t why, void *context, uint64_t addr,
                                          uint64_t what) {
    MAILBOX->sig = 11;
    MAILBOX->code = why;
    MAILBOX->fault_addr = addr;
    MAILBOX->fault_error = what;
    trap(UVM_TRAP_RACE, context);
}

/* Resolve an operand: where it is in the window, whether it touches an active
 * word.  0: it cannot be run here.  Does not return if the kernel has to resolve a
 * fault first. */
static int resolve(struct operand *o, void *context) {
    struct walk walk;
    uint64_t error = UVM_PF_USER | (o->kind & UVM_EVENT_WRITE ? UVM_PF_WRITE : 0);
    uint64_t last = o->addr + o->size - 1;
    o->rest = 0;
    o->head = o->size;
    for (uint64_t page = o->addr & PAGE_MASK; page <= last; page += UVM_PAGE_SIZE) {
        uint64_t addr = page < o->addr ? o->addr : page;
        if (!tlb_walk(addr, error, &walk)) {
            MAILBOX->sig = 11;
            MAILBOX->code = 1;
            MAILBOX->fault_addr = addr;
            MAILBOX->fault_error = error;
            trap(UVM_TRAP_FAULT, context);
        }
        uint64_t frame = walk.entry & UVM_PTE_ADDR;
        if (frame < RACE->data_offset)
            return 0;
        if (walk.entry & UVM_PTE_COW)
            o->cow = 1;
        if (walk.entry & UVM_PTE_W)
            uvm_race_touch_page(RACE, MAILBOX->slot, addr, frame);
        uint8_t *at =
            (uint8_t *)(UVM_RACE_WINDOW + frame - RACE->data_offset + (addr & ~PAGE_MASK));
        if (addr == o->addr)
            o->at = at;
        else if (o->rest)
            return 0;
        else if (at != o->at + (addr - o->addr)) {
            o->rest = at;
            o->head = addr - o->addr;
        }
    }
    o->active = 0;
    uint32_t words = 0;
    for (uint64_t word = o->addr >> 3; word <= last >> 3 && words < 64; word++, words++) {
        const struct uvm_race_active *entry = uvm_race_find_active(RACE, word);
        if (entry && entry->active == UVM_WORD_ACTIVE)
            o->active = 1;
    }
    return 1;
}

static uint64_t value_of(const struct operand *o) {
    if (!o->rest)
        return uvm_race_value(o->at, o->size);
    uint64_t value = 0;
    for (uint32_t i = 0; i < o->size && i < 8; i++)
        value |= (uint64_t)(i < o->head ? o->at[i] : o->rest[i - o->head]) << (8 * i);
    return value;
}

/* Has this task made the same access, with the same value, a moment ago?  Answers
 * how many in a row it has.  What counts as a change may not depend on what is
 * watched besides: only active words do. */
static uint32_t repeats(struct uvm_race_ring *ring, uint64_t ip, const struct operand *o,
                        uint64_t value) {
    uint64_t what = uvm_race_mix(uvm_race_mix(uvm_race_mix(1, ip), o->addr), value);
    for (unsigned i = 0; i < sizeof ring->recent / sizeof ring->recent[0]; i++)
        if (ring->recent[i] == what)
            return ++ring->repeats;
    ring->recent[ring->next++ % (sizeof ring->recent / sizeof ring->recent[0])] = what;
    RACE->changes += o->active;
    return ring->repeats = 0;
}

/* Before access `o` of the instruction at ip: its `number`th choice point, if it
 * is one.  A task that spins has to let others run, wherever it spins: a loop
 * in a library is none of the user's choice points, and a word that nobody knew
 * to be shared has to become active (and the execution begin again). */
static void point(const struct uvm_race_insn *insn, void *context, unsigned number,
                  const struct operand *o, unsigned kind, uint64_t value) {
    struct uvm_race_slot *slot = RACE_SLOT;
    if (slot->ip == insn->ip && number < slot->passed)
        return;
    const uint32_t limit = RACE->spin_limit;
    const int event = o->active && (insn->flags & UVM_INSN_CHOICE);
    uint32_t same = repeats(event ? &slot->events : &slot->others, insn->ip, o, value);
    int spin = limit && same >= (event ? limit : o->active ? 8 * limit : 100 * limit);
    if (!event && !spin)
        return;
    if (!o->active) {
        if (!(kind & UVM_EVENT_READ) || !RACE->found)
            return;
        RACE->found--;
        slot->others.repeats = 0;
        uvm_race_found_word(RACE, o->addr >> 3, 1);
        ask(UVM_RACE_FOUND, context, o->addr, kind);
    }
    uint64_t step = RACE->step++;
    slot->ip = insn->ip;
    slot->passed = number + 1;
    if (step >= RACE->ask_at || spin)
        ask(spin ? UVM_RACE_SPIN : UVM_RACE_POINT, context, o->addr,
            kind | (uint64_t)o->size << 8 | (uint64_t)(insn->flags & UVM_INSN_LOCKED) << 32);
}

/* The access happens now: into the log, and into what is known of its words. */
static void happens(const struct uvm_race_insn *insn, const struct operand *o, unsigned kind) {
    struct uvm_race_slot *slot = RACE_SLOT;
    RACE->watched++;
    uint32_t words = 0;
    for (uint64_t word = o->addr >> 3; word <= (o->addr + o->size - 1) >> 3 && words < 64;
         word++, words++) {
        if (RACE->mode == UVM_RACE_ALL) {
            uint64_t addr = word << 3 < o->addr ? o->addr : word << 3, done = addr - o->addr;
            uint64_t at = (uint64_t)(done < o->head ? o->at + done : o->rest + (done - o->head));
            if (!o->cow || !slot->forked) /* else what others wrote before the fork */
                uvm_race_touch_word(RACE, slot->task,
                                    ((at - UVM_RACE_WINDOW + RACE->data_offset) >> 3) + 1,
                                    word << 3, kind, insn->flags);
            if (RACE->contexts)
                uvm_race_touch_context(RACE, slot, word, kind, insn->flags);
        }
        struct uvm_race_active *entry = o->active ? uvm_race_find_active(RACE, word) : 0;
        if (entry && entry->active == UVM_WORD_ACTIVE)
            uvm_race_order_word(RACE, entry, slot->task, insn->ip, kind);
    }
    if (!o->active)
        return;
    struct uvm_race_event *event = uvm_race_log(
        RACE, (struct uvm_race_event){
                  .ip = insn->ip,
                  .addr = o->addr,
                  .value = value_of(o),
                  .task = slot->task,
                  .kind = kind | (insn->flags & UVM_INSN_LOCKED ? UVM_EVENT_LOCKED : 0),
                  .size = o->size > 255 ? 255 : o->size});
    if (!event)
        return;
    slot->event = o->rest ? 0 : RACE->events;
    slot->event_at = o->at;
    slot->event_size = o->size;
}

/* The task's latest event has happened, and nobody else has run since: what does
 * its memory hold now? */
void race_settle(void) {
    struct uvm_race_slot *slot = RACE_SLOT;
    if (!slot->event)
        return;
    uvm_race_settle(RACE, &TABLE(struct uvm_race_event, events_at)[slot->event - 1],
                    uvm_race_value(slot->event_at, slot->event_size));
    slot->event = 0;
}

static void done(void *context, const struct uvm_race_insn *insn) {
    RACE_SLOT->passed = RACE_SLOT->loaded = 0;
    UC_REG(context, REG_RIP) = insn->ip + insn->length;
}

static void copy(uint8_t *to, const uint8_t *from, uint64_t size) {
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
}

static void fetch(const struct operand *o, uint8_t *to) {
    copy(to, o->at, o->head);
    if (o->rest)
        copy(to + o->head, o->rest, o->size - o->head);
}

static void store(const struct operand *o, const uint8_t *from) {
    copy(o->at, from, o->head);
    if (o->rest)
        copy(o->rest, from + o->head, o->size - o->head);
}

/* ---- how instructions are run */

static uint64_t effective_address(const struct uvm_race_insn *insn, void *context) {
    uint64_t addr = insn->disp;
    if (insn->base < NONE)
        addr += *reg(context, insn->base);
    if (insn->index < NONE)
        addr += *reg(context, insn->index) * insn->scale;
    if (insn->flags & UVM_INSN_FS)
        addr += read_fs();
    if (insn->flags & UVM_INSN_GS)
        addr += RACE_SLOT->gs;
    return addr;
}

static uint8_t *code_of(const struct uvm_race_insn *insn) {
    return (uint8_t *)(UVM_RACE_BASE + RACE->code_at) + insn->number * UVM_RACE_CODE_BYTES;
}

/* Open the pages of an operand and let the processor take one step. */
static int single_step(void *context, const struct operand *o) {
    struct uvm_race_slot *slot = RACE_SLOT;
    uint64_t error = UVM_PF_USER | (o->kind & UVM_EVENT_WRITE ? UVM_PF_WRITE : 0);
    unsigned n = 0;
    for (uint64_t page = o->addr & PAGE_MASK; page < o->addr + o->size; page += UVM_PAGE_SIZE) {
        struct walk walk;
        if (n == 2 || !tlb_walk(page, error, &walk) || !tlb_map(page, &walk, 1))
            return 0;
        slot->stepped[n++] = page | 1;
    }
    RACE->stepped++;
    UC_REG(context, REG_EFLAGS) |= EFLAGS_TF;
    return 1;
}

/* bt and its kin with a register: how far from the operand that is written down
 * the word is that holds the bit, in bytes. */
static int64_t bit_distance(const struct uvm_race_insn *insn, void *context) {
    int64_t bit = *reg(context, insn->reg);
    if (insn->size == 4)
        bit = (int32_t)bit;
    else if (insn->size == 2)
        bit = (int16_t)bit;
    return (bit >> (insn->size == 8 ? 6 : insn->size == 4 ? 5 : 4)) * (int64_t)insn->size;
}

static int run_copy(const struct uvm_race_insn *insn, void *context) {
    struct uvm_race_slot *slot = RACE_SLOT;
    const int64_t far = insn->flags & UVM_INSN_BIT ? bit_distance(insn, context) : 0;
    struct operand o = {
        .addr = effective_address(insn, context) + far, .size = insn->size, .kind = insn->access};
    if (!resolve(&o, context))
        return 0;
    if (insn->kind == UVM_INSN_STEP || o.rest) {
        point(insn, context, 0, &o, insn->access, value_of(&o));
        happens(insn, &o, insn->access);
        slot->passed = 0;
        return single_step(context, &o);
    }
    RACE->copied++;
    uint8_t *code = code_of(insn);
    if (o.active && insn->access == UVM_EVENT_UPDATE && !(insn->flags & UVM_INSN_LOCKED) &&
        o.size <= sizeof slot->buffer) {
        point(insn, context, 0, &o, UVM_EVENT_READ, value_of(&o));
        happens(insn, &o, UVM_EVENT_READ);
        fetch(&o, slot->buffer);
        slot->target = o.addr;
        slot->target_size = o.size;
        set_gs((uint64_t)slot->buffer - far);
        UC_REG(context, REG_RIP) = (uint64_t)code + CODE_SPLIT;
        return 1;
    }
    point(insn, context, 0, &o, insn->access, value_of(&o));
    happens(insn, &o, insn->access);
    slot->passed = 0;
    set_gs((uint64_t)o.at - far);
    UC_REG(context, REG_RIP) = (uint64_t)code;
    return 1;
}

/* A plain read or write of `o` by an emulated instruction: its `number`th point. */
static int access(const struct uvm_race_insn *insn, void *context, struct operand *o,
                  unsigned number, uint64_t *value) {
    if (!resolve(o, context))
        return 0;
    point(insn, context, number, o, o->kind, value_of(o));
    happens(insn, o, o->kind);
    if (o->kind == UVM_EVENT_READ)
        *value = value_of(o);
    else
        store(o, (uint8_t *)value);
    return 1;
}

/* The first of two accesses: a read, done once and kept. */
static int load(const struct uvm_race_insn *insn, void *context, uint64_t addr, uint32_t size,
                uint64_t *value) {
    struct uvm_race_slot *slot = RACE_SLOT;
    struct operand o = {.addr = addr, .size = size, .kind = UVM_EVENT_READ};
    if (slot->ip == insn->ip && slot->loaded) {
        *value = uvm_race_value(slot->buffer, size);
        return 1;
    }
    if (!access(insn, context, &o, 0, value))
        return 0;
    slot->ip = insn->ip;
    slot->loaded = 1;
    copy(slot->buffer, (uint8_t *)value, size);
    return 1;
}

static int run_stack(const struct uvm_race_insn *insn, void *context) {
    uint64_t *sp = &UC_REG(context, REG_RSP), value = 0, next = insn->ip + insn->length;
    struct operand top = {.addr = *sp - 8, .size = 8, .kind = UVM_EVENT_WRITE};
    switch (insn->kind) {
    case UVM_INSN_PUSH:
        value = *reg(context, insn->reg);
        break;
    case UVM_INSN_PUSH_IMM:
        value = insn->imm;
        break;
    case UVM_INSN_PUSH_MEM:
    case UVM_INSN_CALL_MEM:
        if (!load(insn, context, effective_address(insn, context), 8, &value))
            return 0;
        break;
    case UVM_INSN_CALL:
        value = insn->imm;
        break;
    case UVM_INSN_CALL_REG:
        value = *reg(context, insn->reg);
        break;
    default: /* pops */
        top.kind = UVM_EVENT_READ;
        top.addr = insn->kind == UVM_INSN_LEAVE ? UC_REG(context, REG_RBP) : *sp;
        break;
    }
    if (insn->kind >= UVM_INSN_CALL && insn->kind <= UVM_INSN_CALL_MEM) {
        uint64_t target = value;
        value = next;
        next = target;
    }
    if (!access(insn, context, &top, 1, &value))
        return 0;
    RACE->emulated++;
    done(context, insn);
    if (top.kind == UVM_EVENT_WRITE) {
        *sp -= 8;
    } else {
        *sp = top.addr + 8;
        if (insn->kind == UVM_INSN_POP)
            *reg(context, insn->reg) = value;
        else if (insn->kind == UVM_INSN_LEAVE)
            UC_REG(context, REG_RBP) = value;
        else {
            *sp += insn->imm;
            next = value;
        }
    }
    UC_REG(context, REG_RIP) = next;
    return 1;
}

/* a - b, of `size` bytes: the flags. */
static uint64_t compare_flags(uint64_t a, uint64_t b, unsigned size) {
    uint64_t flags;
    unsigned shift = 64 - 8 * size; /* the arithmetic of the high bits is the same */
    __asm__("cmpq %2,%1\n pushfq\n popq %0"
            : "=r"(flags)
            : "r"(a << shift), "r"(b << shift)
            : "cc");
    if (shift) { /* but parity and adjust look at the low ones */
        uint64_t low;
        __asm__("cmpb %b2,%b1\n pushfq\n popq %0" : "=r"(low) : "q"(a), "q"(b) : "cc");
        flags = (flags & ~0x14UL) | (low & 0x14UL);
    }
    return flags & EFLAGS_ARITHMETIC;
}

static int run_string(const struct uvm_race_insn *insn, void *context) {
    struct uvm_race_slot *slot = RACE_SLOT;
    uint64_t *count = &UC_REG(context, REG_RCX), *di = &UC_REG(context, REG_RDI);
    uint64_t *si = &UC_REG(context, REG_RSI), *ax = &UC_REG(context, REG_RAX);
    uint64_t *flags = &UC_REG(context, REG_EFLAGS);
    const int repeated = insn->flags & (UVM_INSN_REPE | UVM_INSN_REPNE);
    const uint64_t size = insn->size, step = *flags & EFLAGS_DF ? -size : size;
    const uint64_t mask = size == 8 ? ~0UL : (1UL << 8 * size) - 1;
    const uint64_t segment = insn->flags & UVM_INSN_FS   ? read_fs()
                             : insn->flags & UVM_INSN_GS ? slot->gs
                                                         : 0;
    RACE->emulated++;
    while (!repeated || *count) {
        uint64_t value = *ax & mask, other = 0;
        struct operand to = {.addr = *di, .size = size, .kind = UVM_EVENT_WRITE};
        int reads_si = insn->kind == UVM_INSN_MOVS || insn->kind == UVM_INSN_LODS ||
                       insn->kind == UVM_INSN_CMPS;
        if (reads_si && !load(insn, context, *si + segment, size, &value))
            return 0;
        if (insn->kind == UVM_INSN_CMPS || insn->kind == UVM_INSN_SCAS) {
            to.kind = UVM_EVENT_READ;
            if (!access(insn, context, &to, 1, &other))
                return 0;
            *flags = (*flags & ~(uint64_t)EFLAGS_ARITHMETIC) | compare_flags(value, other, size);
        } else if (insn->kind == UVM_INSN_LODS) {
            *ax = size == 4 ? value : (*ax & ~mask) | value;
        } else if (!access(insn, context, &to, 1, &value)) {
            return 0;
        }
        slot->passed = slot->loaded = 0; /* this element is done */
        if (reads_si)
            *si += step;
        if (insn->kind != UVM_INSN_LODS)
            *di += step;
        if (!repeated)
            break;
        --*count;
        if (insn->kind >= UVM_INSN_CMPS && *count) {
            int equal = value == other;
            if (equal != ((insn->flags & UVM_INSN_REPE) != 0))
                break;
        }
    }
    done(context, insn);
    return 1;
}

/* Words are looked for, and what a handler or a forked process touches there may be what
 * others touch too, though the page is its own.  Its stack is not. */
static int apart(uint64_t addr, void *context) {
    const struct uvm_race_slot *slot = RACE_SLOT;
    return RACE->mode == UVM_RACE_ALL && (slot->handling || slot->forked) &&
           addr - (UC_REG(context, REG_RSP) - STACK_BELOW) >= STACK_BELOW + STACK_ABOVE;
}

int race_fault(uint64_t addr, uint64_t error, void *context) {
    struct walk walk;
    race_settle();
    if (!tlb_walk(addr, error, &walk))
        return 0;
    uint64_t frame = walk.entry & UVM_PTE_ADDR;
    if (RACE->mode == UVM_RACE_OFF || (error & UVM_PF_INSTR) || frame < RACE->data_offset)
        return tlb_map(addr, &walk, 0);
    if (RACE->contexts && apart(addr, context))
        uvm_race_list_page(RACE, addr >> UVM_PAGE_SHIFT);
    if (!(walk.entry & UVM_PTE_W)) { /* nobody writes here, or only once a copy has been made */
        if (!(walk.entry & UVM_PTE_COW) || !uvm_race_is_listed(RACE, addr >> UVM_PAGE_SHIFT))
            return tlb_map(addr, &walk, 0);
    } else if (!uvm_race_touch_page(RACE, MAILBOX->slot, addr, frame)) {
        return tlb_map(addr, &walk, RACE->mode == UVM_RACE_ALL);
    }
    if (RACE->mode == UVM_RACE_GREEDY && MAILBOX->slot == RACE->greedy && !RACE->patience--)
        ask(UVM_RACE_CALM, context, addr, error);
    uint64_t ip = UC_REG(context, REG_RIP);
    const struct uvm_race_insn *insn = find_insn(ip);
    int known = insn != 0;
    for (unsigned i = 0; known && i < insn->length; i++)
        known = insn->bytes[i] == ((const uint8_t *)ip)[i];
    if (!known)
        ask(UVM_RACE_INSN, context, addr, error);
    struct uvm_race_slot *slot = RACE_SLOT;
    if (slot->ip != ip)
        slot->passed = slot->loaded = 0;
    int ran = 0;
    if (insn->kind == UVM_INSN_COPY || insn->kind == UVM_INSN_STEP)
        ran = run_copy(insn, context);
    else if (insn->kind >= UVM_INSN_PUSH && insn->kind <= UVM_INSN_LEAVE)
        ran = run_stack(insn, context);
    else if (insn->kind >= UVM_INSN_MOVS && insn->kind <= UVM_INSN_SCAS)
        ran = run_string(insn, context);
    if (!ran)
        ask(UVM_RACE_REFUSED, context, addr, error);
    return 1;
}

/* Which of our copies is the task in?  *offset: how far. */
static const struct uvm_race_insn *insn_of_copy(uint64_t ip, uint64_t *offset) {
    uint64_t code = UVM_RACE_BASE + RACE->code_at;
    if (ip < code || ip >= UVM_RACE_BASE + config.race_size)
        return 0;
    *offset = (ip - code) % UVM_RACE_CODE_BYTES;
    uint64_t start = ip - *offset;
    uint64_t guest = *(const uint64_t *)(start + UVM_RACE_CODE_BYTES - 8);
    return find_insn(guest);
}

int race_step(void *context) {
    struct uvm_race_slot *slot = RACE_SLOT;
    uint64_t offset, *ip = &UC_REG(context, REG_RIP);
    if (slot->stepped[0]) {
        for (unsigned i = 0; i < 2; i++)
            if (slot->stepped[i])
                hostcall(__NR_munmap, slot->stepped[i] & PAGE_MASK, UVM_PAGE_SIZE);
        slot->stepped[0] = slot->stepped[1] = 0;
        UC_REG(context, REG_EFLAGS) &= ~(uint64_t)EFLAGS_TF;
        return 1;
    }
    const struct uvm_race_insn *insn = insn_of_copy(*ip - 1, &offset);
    if (!insn || offset <= CODE_SPLIT)
        return 0;
    struct operand o = {.addr = slot->target, .size = slot->target_size, .kind = UVM_EVENT_WRITE};
    --*ip; /* should the kernel be asked, the int3 comes again */
    if (!resolve(&o, context))
        return 0;
    point(insn, context, 1, &o, UVM_EVENT_WRITE, uvm_race_value(slot->buffer, o.size));
    happens(insn, &o, UVM_EVENT_WRITE);
    store(&o, slot->buffer);
    done(context, insn);
    return 1;
}

void race_restore_ip(void *context) {
    uint64_t offset, *ip = &UC_REG(context, REG_RIP);
    const struct uvm_race_insn *insn = insn_of_copy(*ip, &offset);
    if (!insn)
        return;
    if (offset == 0 || offset == CODE_SPLIT)
        *ip = insn->ip;
    else if (offset < CODE_SPLIT)
        *ip = insn->ip + insn->length;
}
