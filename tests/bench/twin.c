/*
 * The twin: the engine's hot paths written by hand in C, for `ptstress bench`.
 *
 * Question: what does it cost that the engine is written in Cython, reaches its tables through a cursor that a policy
 * fills, and exists once for all builds? Each row "twin ..." of the bench is the engine's time for one kind of work
 * over this file's time for the same work, both measured in one process, in turns.
 *
 * Same: the structures and their padding, the algorithm, every atomic access and its order, run-time geometry,
 * counters, magazines, gather, TLB and paging-structure cache, the two RCU domains with callbacks and membarrier, backlog limits.
 * Not the same, which is what the ratio shows: calls are direct (no protect_ops, no reclaim_ops), one protection
 * (vma_lock) and one reclaim policy (sync, fast detach only) stand where the engine asks for them, no knobs, no bugs,
 * no checks; code for several mms, munmap and the slow detach is left out.
 *
 * Scope: one cpu at a time, one address space. It is a yardstick, not a second engine: nothing checks what it does
 * but the few results that twin_measure() returns. Change it when a hot path of the engine changes on purpose.
 *
 * Build: cc -O3 -g -fPIC -shared (the flags of the `fast` build); ptstress/bench_twin.py does it on demand from a
 * source tree and loads it with ctypes. Orderings are explained in cy/LOCKING.md under the labels given here.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define READ_ONCE(x) __atomic_load_n(&(x), __ATOMIC_RELAXED)
#define WRITE_ONCE(x, v) __atomic_store_n(&(x), (v), __ATOMIC_RELAXED)
#define smp_load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define smp_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define xchg(p, v) __atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST)
#define xchg_acquire(p, v) __atomic_exchange_n((p), (v), __ATOMIC_ACQUIRE)
#define atomic_add_return(p, v) __atomic_add_fetch((p), (v), __ATOMIC_SEQ_CST)
#define atomic_add(p, v) __atomic_add_fetch((p), (v), __ATOMIC_RELAXED)
#define barrier() __asm__ __volatile__("" ::: "memory")
#define likely(x) __builtin_expect(!!(x), 1)

#define MEMBARRIER_PRIVATE_EXPEDITED 8
#define MEMBARRIER_REGISTER_PRIVATE_EXPEDITED 16

enum { PAGE_SHIFT = 12, PTE_LEVEL = 0, PMD_LEVEL = 1, LEVELS = 4, P4D_LEVEL = 3 };
enum { RCU_TABLES, RCU_HW, NR_RCU };
enum { TLB_ENTRIES = 64, PWC_ENTRIES = 32, FLUSH_CEILING = 33, GP_BATCH = 32, FRAMES_PER_CALLBACK = 16, BACKLOG_MAX = 512 };
enum { ITEM_FREE, ITEM_LIVE, ITEM_ZAPPED, NONE32 = -1 };
enum { C_FAULTS, C_FLUSHES, C_FULL_FLUSHES, C_GRACE_PERIODS, C_CALLBACKS, C_GP_MAX, C_BACKLOG_MAX, C_ALLOCATED, C_FREED,
	C_RECLAIMED, C_PEAK, C_PINNED_KEPT, C_BATCHED_DRAINS, C_RECYCLED, C_FAST, C_LOST, C_CONTENDED, C_FALLBACK, NR_COUNTERS = 112 };

#define PT_PRESENT 1ull
#define PT_RW 2ull
#define PT_USER 4ull
#define PT_ACCESSED (1ull << 5)
#define PT_DIRTY (1ull << 6)
#define PT_SPECIAL (1ull << 9)
#define PT_ANON (PT_PRESENT | PT_USER | PT_ACCESSED | PT_DIRTY | PT_RW)
#define PT_TABLE (PT_PRESENT | PT_RW | PT_USER | PT_ACCESSED)
#define PT_FRESH (1ull << 63)

struct cpu;
struct rcu_head { struct rcu_head *next; void (*func)(struct cpu *, struct rcu_head *); };
struct rcu_cpu {
	uint64_t slot;
	uint64_t nested;
	struct rcu_head *next_head, **next_tail, *wait_head;
	uint64_t wait_gp;
	uint32_t nr_next, nr_wait;
	uint64_t pad[9];
};
struct tlb_entry { uint64_t tag, val, gen, incarnation, fills, pad[3]; };
struct pwc_entry { uint64_t tag, pmd, gen, fills; };
struct frame_chain { uint32_t head, tail, nr; uint64_t gp; };
struct cpu {
	uint32_t id, verb, seq;
	uint64_t rng, next_incarnation;
	uint64_t *counter;
	struct frame_chain frames_next, frames_wait;
	uint64_t pad[8];
	uint64_t flush_gen, full_flushes, pad0[8];
	struct rcu_cpu rcu[NR_RCU];
	struct tlb_entry tlb[TLB_ENTRIES];
	struct pwc_entry pwc[PWC_ENTRIES];
	uint64_t counters[NR_COUNTERS];
};
struct domain {
	uint64_t gp_seq, gp_completed;
	struct cpu *cpus;
	uint32_t nr_cpus, which, membarrier, gp_lock;
	uint64_t gp_start_ns;
};
struct item { uint32_t next, gen, state, owner; };
struct magazine { uint32_t head, nr; uint64_t pad[15]; };
struct arena {
	struct item *items;
	uint32_t nr, batch, high;
	uint64_t pad[8];
	uint32_t lock, head, nr_free;
	struct magazine mags[64];
};
struct page { uint64_t stamp, incarnation, vpn; uint32_t lazyfree, dirty; uint64_t pins; };
struct ptdesc {
	struct rcu_head rcu;
	uint64_t *entries;
	uint32_t lock, level, index, next, detached, pad;
	uint64_t addr;
	void *mm;
};
struct vma {
	struct rcu_head rcu;
	uint64_t vm_start, vm_end;
	uint32_t writable, anon_vma, vm_lock_seq, index, next;
	void *vm_mm;
	uint64_t pad0[8];
	uint32_t vm_refcnt, pad1[15];
};
struct geometry { uint32_t levels, mask[5], shift[6], max_bits; uint64_t task_size; };
struct counter { uint64_t n, pad[7]; };
struct mm {
	struct geometry geo;
	struct arena *frames, *tables;
	struct page *pages;
	struct ptdesc *ptdescs;
	uint64_t *entries;
	struct domain *rcu;
	struct cpu *cpus;
	uint32_t nr_cpus;
	struct ptdesc *pgd;
	uint64_t pad2[8];
	uint32_t page_table_lock, mm_lock_seq, set_seq, set_nr;
	struct vma **slots;
	uint64_t pad0[8];
	uint64_t pgtables_bytes, tlb_flush_pending;
	uint32_t tlb_flush_batched, pad3;
	struct counter rss[64];
};
struct gather { struct mm *mm; struct cpu *cpu; uint64_t start, end; int freed_tables; uint32_t tables; struct frame_chain frames; };

static uint64_t thread_cpu_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void count(struct cpu *c, int n) { c->counter[n]++; }
static inline void count_max(struct cpu *c, int n, uint64_t v) { if (v > c->counter[n]) c->counter[n] = v; }
static inline int pte_none(uint64_t pte) { return (pte & ~(PT_ACCESSED | PT_DIRTY)) == 0; }
static inline uint32_t pte_pfn(uint64_t pte) { return (uint32_t)(pte >> PAGE_SHIFT); }
static inline uint64_t mk_pte(uint32_t pfn, uint64_t flags) { return ((uint64_t)pfn << PAGE_SHIFT) | flags; }

static inline uint32_t geo_index(const struct geometry *g, uint32_t level, uint64_t addr)
{
	return (uint32_t)(addr >> g->shift[level]) & g->mask[level];
}

static inline uint64_t geo_addr_end(const struct geometry *g, uint32_t level, uint64_t addr, uint64_t end)
{
	uint64_t span = 1ull << g->shift[level + 1], boundary = (addr + span) & ~(span - 1);
	return boundary - 1 < end - 1 ? boundary : end;
}

/* ---- spinlock [PT-001] ---- */

static __attribute__((noinline)) void spin_lock_slow(struct cpu *c, uint32_t *lock)
{
	count(c, C_CONTENDED);
	do {
		while (READ_ONCE(*lock))
			sched_yield();
	} while (xchg_acquire(lock, c->id + 1));
}

static inline void spin_lock(struct cpu *c, uint32_t *lock)
{
	if (xchg_acquire(lock, c->id + 1))
		spin_lock_slow(c, lock);
}

static inline int spin_trylock(struct cpu *c, uint32_t *lock)
{
	return !READ_ONCE(*lock) && !xchg_acquire(lock, c->id + 1);
}

static inline void spin_unlock(uint32_t *lock) { smp_store_release(lock, 0); }

/* ---- RCU [PT-010] .. [PT-013] ---- */

static inline void rcu_read_lock(struct cpu *c, struct domain *d)
{
	struct rcu_cpu *r = &c->rcu[d->which];
	if (likely(r->slot == 0)) {
		uint64_t seq = smp_load_acquire(&d->gp_seq);
		if (!d->membarrier) {
			xchg(&r->slot, seq);
		} else {
			WRITE_ONCE(r->slot, seq);
			barrier();
		}
	} else {
		r->nested++;
	}
}

static inline void rcu_read_unlock(struct cpu *c, struct domain *d)
{
	struct rcu_cpu *r = &c->rcu[d->which];
	if (likely(r->nested == 0)) {
		smp_store_release(&r->slot, 0);
	} else {
		r->nested--;
	}
}

static inline void call_rcu(struct cpu *c, struct domain *d, struct rcu_head *head,
			    void (*func)(struct cpu *, struct rcu_head *))
{
	struct rcu_cpu *r = &c->rcu[d->which];
	head->func = func;
	head->next = NULL;
	*r->next_tail = head;
	r->next_tail = &head->next;
	r->nr_next++;
	count_max(c, C_BACKLOG_MAX, r->nr_next + r->nr_wait);
}

static inline uint64_t rcu_gp_target(struct domain *d)
{
	uint32_t w = 0;
	(void)xchg(&w, 1);
	return READ_ONCE(d->gp_seq) + 2;
}

static inline int rcu_gp_reached(struct domain *d, uint64_t target)
{
	return (int64_t)(smp_load_acquire(&d->gp_completed) - target) >= 0;
}

static int rcu_gp_done(struct domain *d)
{
	for (uint32_t i = 0; i < d->nr_cpus; i++) {
		uint64_t slot = smp_load_acquire(&d->cpus[i].rcu[d->which].slot);
		if (slot && slot != d->gp_seq)
			return 0;
	}
	return 1;
}

static void rcu_advance(struct cpu *c, struct domain *d)
{
	if (!spin_trylock(c, &d->gp_lock))
		return;
	if (d->gp_seq == d->gp_completed) {
		d->gp_start_ns = now_ns();
		xchg(&d->gp_seq, d->gp_seq + 2);
		if (d->membarrier)
			syscall(SYS_membarrier, MEMBARRIER_PRIVATE_EXPEDITED, 0, 0);
	}
	if (rcu_gp_done(d)) {
		count(c, C_GRACE_PERIODS);
		count_max(c, C_GP_MAX, now_ns() - d->gp_start_ns);
		smp_store_release(&d->gp_completed, d->gp_seq);
	}
	spin_unlock(&d->gp_lock);
}

static void rcu_segments(struct cpu *c, struct domain *d)
{
	struct rcu_cpu *r = &c->rcu[d->which];
	if (r->nr_wait && rcu_gp_reached(d, r->wait_gp)) {
		struct rcu_head *head = r->wait_head, *next;
		r->wait_head = NULL;
		c->counter[C_CALLBACKS] += r->nr_wait;
		r->nr_wait = 0;
		for (; head; head = next) {
			next = head->next;
			head->func(c, head);
		}
	}
	if (!r->nr_wait && r->nr_next) {
		r->wait_head = r->next_head;
		r->nr_wait = r->nr_next;
		r->next_head = NULL;
		r->next_tail = &r->next_head;
		r->nr_next = 0;
		r->wait_gp = rcu_gp_target(d);
	}
}

static inline void rcu_poll(struct cpu *c, struct domain *d, uint32_t threshold)
{
	struct rcu_cpu *r = &c->rcu[d->which];
	if (!(r->nr_next + r->nr_wait) || r->nr_next + r->nr_wait < threshold)
		return;
	rcu_segments(c, d);
	if (r->nr_wait) {
		rcu_advance(c, d);
		rcu_segments(c, d);
	}
}

/* ---- arena ---- */

static __attribute__((noinline)) void arena_refill(struct cpu *c, struct arena *a, struct magazine *m)
{
	spin_lock(c, &a->lock);
	for (uint32_t want = a->batch; want && a->head != (uint32_t)NONE32; want--) {
		uint32_t i = a->head;
		a->head = a->items[i].next;
		a->nr_free--;
		a->items[i].next = m->head;
		m->head = i;
		m->nr++;
	}
	spin_unlock(&a->lock);
}

static __attribute__((noinline)) void arena_drain(struct cpu *c, struct arena *a, struct magazine *m)
{
	spin_lock(c, &a->lock);
	for (uint32_t n = a->high >> 1; n; n--) {
		uint32_t i = m->head;
		m->head = a->items[i].next;
		m->nr--;
		a->items[i].next = a->head;
		a->head = i;
		a->nr_free++;
	}
	spin_unlock(&a->lock);
}

static inline uint32_t arena_alloc(struct cpu *c, struct arena *a)
{
	struct magazine *m = &a->mags[c->id];
	uint32_t i;
	if (!m->nr) {
		arena_refill(c, a, m);
		if (!m->nr)
			return NONE32;
	}
	i = m->head;
	m->head = a->items[i].next;
	m->nr--;
	a->items[i].gen++;
	WRITE_ONCE(a->items[i].state, ITEM_LIVE);
	return i;
}

static inline void arena_free(struct cpu *c, struct arena *a, uint32_t i)
{
	struct magazine *m = &a->mags[c->id];
	WRITE_ONCE(a->items[i].state, ITEM_FREE);
	if (m->nr >= a->high)
		arena_drain(c, a, m);
	a->items[i].next = m->head;
	m->head = i;
	m->nr++;
}

static inline void arena_zapped(struct cpu *c, struct arena *a, uint32_t i)
{
	WRITE_ONCE(a->items[i].owner, (c->id << 24) | (c->seq & 0xffffff));
	WRITE_ONCE(a->items[i].state, ITEM_ZAPPED);
}

static void arena_init(struct arena *a, uint32_t nr)
{
	a->items = calloc(nr, sizeof(*a->items));
	a->nr = nr;
	for (uint32_t i = 0; i < nr; i++)
		a->items[i].next = i + 1 < nr ? i + 1 : (uint32_t)NONE32;
	a->head = 1;
	a->nr_free = nr - 1;
	a->batch = nr >> 8 < 32 ? 32 : nr >> 8;
	a->high = 2 * a->batch;
	for (int i = 0; i < 64; i++)
		a->mags[i].head = NONE32;
}

/* ---- frames and tables ---- */

static inline void chain_add(struct mm *m, struct frame_chain *chain, uint32_t pfn)
{
	m->frames->items[pfn].next = chain->head;
	if (!chain->nr++)
		chain->tail = pfn;
	chain->head = pfn;
}

static void frames_segments(struct cpu *c, struct mm *m)
{
	if (c->frames_wait.nr && rcu_gp_reached(&m->rcu[RCU_HW], c->frames_wait.gp)) {
		uint32_t pfn = c->frames_wait.head, next;
		for (; c->frames_wait.nr; c->frames_wait.nr--) {
			next = m->frames->items[pfn].next;
			/* A frame that gup_fast pinned waits for another grace period [PT-041]. */
			if (smp_load_acquire(&m->pages[pfn].pins)) {
				count(c, C_PINNED_KEPT);
				chain_add(m, &c->frames_next, pfn);
			} else {
				arena_free(c, m->frames, pfn);
			}
			pfn = next;
		}
	}
	if (!c->frames_wait.nr && c->frames_next.nr) {
		c->frames_wait = c->frames_next;
		c->frames_next.nr = 0;
		c->frames_wait.gp = rcu_gp_target(&m->rcu[RCU_HW]);
	}
}

static inline void frames_poll(struct cpu *c, struct mm *m, uint32_t threshold)
{
	if (!(c->frames_next.nr + c->frames_wait.nr) || c->frames_next.nr + c->frames_wait.nr < threshold)
		return;
	frames_segments(c, m);
	if (c->frames_wait.nr) {
		rcu_advance(c, &m->rcu[RCU_HW]);
		frames_segments(c, m);
	}
}

static void poll(struct cpu *c, struct mm *m, uint32_t threshold)
{
	rcu_poll(c, &m->rcu[RCU_TABLES], threshold);
	rcu_poll(c, &m->rcu[RCU_HW], threshold);
	frames_poll(c, m, threshold * FRAMES_PER_CALLBACK);
}

static inline uint32_t frame_alloc(struct cpu *c, struct mm *m, uint64_t addr)
{
	uint32_t pfn = arena_alloc(c, m->frames);
	struct page *p;
	uint64_t incarnation;
	if (pfn == (uint32_t)NONE32)
		return NONE32;
	p = &m->pages[pfn];
	incarnation = PT_FRESH | ((uint64_t)c->id << 40) | (++c->next_incarnation & 0xffffffffffull);
	p->vpn = addr >> PAGE_SHIFT;
	p->lazyfree = p->dirty = 0;		/* MADV_FREE and memory pressure look at them */
	WRITE_ONCE(p->incarnation, incarnation);
	p->stamp = incarnation;
	return pfn;
}

static struct ptdesc *table_alloc(struct cpu *c, struct mm *m, uint32_t level, uint64_t addr)
{
	uint32_t i = arena_alloc(c, m->tables);
	struct ptdesc *t;
	if (i == (uint32_t)NONE32)
		return NULL;
	t = &m->ptdescs[i];
	t->level = level;
	t->detached = 0;
	t->addr = addr & ~((1ull << m->geo.shift[level + 1]) - 1);
	t->mm = m;
	t->lock = 0;
	memset(t->entries, 0, (m->geo.mask[level] + 1) * 8ul);
	count(c, C_ALLOCATED);
	return t;
}

static void table_hw_gp_over(struct cpu *c, struct rcu_head *head)
{
	struct ptdesc *t = (struct ptdesc *)head;
	count(c, C_FREED);
	arena_free(c, ((struct mm *)t->mm)->tables, t->index);
}

static void table_gp_over(struct cpu *c, struct rcu_head *head)
{
	call_rcu(c, &((struct mm *)((struct ptdesc *)head)->mm)->rcu[RCU_HW], head, table_hw_gp_over);
}

static inline uint64_t *table_entries(struct mm *m, struct ptdesc *t)
{
	return m->entries + ((uint64_t)(t - m->ptdescs) << m->geo.max_bits);
}

static inline struct ptdesc *table_of(struct mm *m, uint64_t entry)
{
	if ((entry & (PT_TABLE | PT_SPECIAL)) != PT_TABLE)
		return NULL;
	return &m->ptdescs[pte_pfn(entry)];
}

/* ---- finding and locking a pte_table [PT-004] [PT-005] ---- */

static inline uint64_t *entry_offset(struct mm *m, uint64_t addr, uint32_t level, struct ptdesc **table, uint32_t *missing)
{
	struct ptdesc *t = m->pgd;
	for (uint32_t l = m->geo.levels - 1;; l--) {
		uint64_t *entryp = table_entries(m, t) + geo_index(&m->geo, l, addr);
		if (l == level) {
			*table = t;
			return entryp;
		}
		t = table_of(m, smp_load_acquire(entryp));
		if (!t) {
			*missing = l;
			return NULL;
		}
	}
}

static inline struct ptdesc *pte_offset_map(struct cpu *c, struct mm *m, uint64_t *pmdp, uint64_t *pmdval)
{
	rcu_read_lock(c, &m->rcu[RCU_TABLES]);
	*pmdval = smp_load_acquire(pmdp);
	if (!pte_none(*pmdval)) {
		struct ptdesc *t = table_of(m, *pmdval);
		if (t)
			return t;
	}
	rcu_read_unlock(c, &m->rcu[RCU_TABLES]);
	return NULL;
}

static inline struct ptdesc *pte_offset_map_lock(struct cpu *c, struct mm *m, uint64_t *pmdp, uint64_t *pmdval)
{
	for (;;) {
		struct ptdesc *t = pte_offset_map(c, m, pmdp, pmdval);
		if (!t)
			return NULL;
		spin_lock(c, &t->lock);
		if (READ_ONCE(*pmdp) == *pmdval)
			return t;
		count(c, C_LOST);
		spin_unlock(&t->lock);
		rcu_read_unlock(c, &m->rcu[RCU_TABLES]);
	}
}

static int install(struct cpu *c, struct mm *m, uint64_t addr)
{
	struct ptdesc *parent = NULL, *new;
	uint32_t missing = PMD_LEVEL;
	uint64_t *entryp;
	uint32_t *lock;
	for (;;) {
		entryp = entry_offset(m, addr, PMD_LEVEL, &parent, &missing);
		if (entryp) {
			missing = PMD_LEVEL;
			if (!pte_none(smp_load_acquire(entryp)))
				return 0;
		} else {
			entryp = entry_offset(m, addr, missing, &parent, &missing);
		}
		new = table_alloc(c, m, missing - 1, addr);
		if (!new)
			return -1;
		lock = missing == PMD_LEVEL ? &parent->lock : &m->page_table_lock;
		spin_lock(c, lock);
		if (pte_none(READ_ONCE(*entryp))) {
			if (new->level < P4D_LEVEL)
				count_max(c, C_PEAK, atomic_add(&m->pgtables_bytes, 4096));
			smp_store_release(entryp, mk_pte(new->index, PT_TABLE));
			new = NULL;
		}
		spin_unlock(lock);
		if (new)
			arena_free(c, m->tables, new->index);
	}
}

/* ---- TLB and hardware [PT-009] [PT-020] ---- */

/* Returns whether no flush came since walk_gen was read. Generations of frames and fills are kept for oracles only. */
static inline int tlb_fill(struct cpu *c, uint64_t vpn, uint64_t val, uint64_t walk_gen)
{
	struct tlb_entry *e = &c->tlb[vpn & (TLB_ENTRIES - 1)];
	WRITE_ONCE(e->tag, 0);
	barrier();
	WRITE_ONCE(e->val, val);
	WRITE_ONCE(e->gen, READ_ONCE(c->full_flushes));
	xchg(&e->tag, vpn + 1);
	if (likely(READ_ONCE(c->flush_gen) == walk_gen))
		return 1;
	WRITE_ONCE(e->tag, 0);
	return 0;
}

/* The paging-structure cache: the region of a pte_table -> the pmd entry that referred to it. */
static inline uint64_t pwc_region(struct mm *m, uint64_t addr) { return addr >> m->geo.shift[PMD_LEVEL]; }
static inline struct pwc_entry *pwc_slot(struct cpu *c, uint64_t region) { return &c->pwc[region & (PWC_ENTRIES - 1)]; }

static inline uint64_t pwc_lookup(struct cpu *c, uint64_t region)
{
	struct pwc_entry *e = pwc_slot(c, region);
	return READ_ONCE(e->tag) == region + 1 && READ_ONCE(e->gen) == READ_ONCE(c->full_flushes) ? READ_ONCE(e->pmd) : 0;
}

static inline struct pwc_entry *pwc_fill(struct cpu *c, uint64_t region, uint64_t pmd)
{
	struct pwc_entry *e = pwc_slot(c, region);
	WRITE_ONCE(e->tag, 0);
	barrier();
	WRITE_ONCE(e->pmd, pmd);
	WRITE_ONCE(e->gen, READ_ONCE(c->full_flushes));
	WRITE_ONCE(e->tag, region + 1);		/* [PT-020] the barrier is the exchange of tlb_fill */
	return e;
}

static inline void pwc_drop(struct cpu *c, uint64_t region)
{
	struct pwc_entry *e = pwc_slot(c, region);
	if (READ_ONCE(e->tag) == region + 1)
		WRITE_ONCE(e->tag, 0);
}

static inline uint64_t hw_walk(struct cpu *c, struct mm *m, uint64_t addr, int write)
{
	uint64_t gen = smp_load_acquire(&c->flush_gen), region = pwc_region(m, addr), pmd, pte, new;
	uint64_t *ptep, *pmdp;
	struct ptdesc *table;
	struct pwc_entry *filled = NULL;
	uint32_t missing = 0;
	int cached, kept;
	for (;;) {
		pmd = pwc_lookup(c, region);
		cached = pmd != 0;
		if (!cached) {
			pmdp = entry_offset(m, addr, PMD_LEVEL, &table, &missing);
			pmd = pmdp ? smp_load_acquire(pmdp) : 0;
		}
		table = table_of(m, pmd);
		if (!table)
			return 0;
		ptep = table_entries(m, table) + geo_index(&m->geo, PTE_LEVEL, addr);
		pte = smp_load_acquire(ptep);
		if (!(pte & PT_PRESENT) || (write && !(pte & PT_RW)))
			return 0;
		new = pte | PT_ACCESSED | (write ? PT_DIRTY : 0);
		if (new == pte || __atomic_compare_exchange_n(ptep, &pte, new, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
			break;
	}
	if (!cached)
		filled = pwc_fill(c, region, pmd);
	kept = tlb_fill(c, addr >> PAGE_SHIFT, new, gen);
	if (filled && !kept)
		WRITE_ONCE(filled->tag, 0);
	return new;
}

static inline void hw_transfer(struct mm *m, uint64_t val, int write, uint64_t *value, uint64_t *incarnation)
{
	struct page *p = &m->pages[pte_pfn(val)];
	if (!pte_pfn(val)) {
		*value = 0;
		*incarnation = 0;
		return;
	}
	*incarnation = READ_ONCE(p->incarnation);
	if (write)
		WRITE_ONCE(p->stamp, *value);
	else
		*value = READ_ONCE(p->stamp);
}

/* The TLB has no translation that will do. Context: in the hardware section, which ends here. */
static __attribute__((noinline)) int hw_access_walk(struct cpu *c, struct mm *m, uint64_t addr, int write, uint64_t *value,
						    uint64_t *incarnation)
{
	uint64_t val = hw_walk(c, m, addr, write);
	if (val)
		hw_transfer(m, val, write, value, incarnation);
	else
		pwc_drop(c, pwc_region(m, addr));	/* a page fault drops what it used */
	rcu_read_unlock(c, &m->rcu[RCU_HW]);
	return val != 0;
}

static inline int hw_access(struct cpu *c, struct mm *m, uint64_t addr, int write, uint64_t *value, uint64_t *incarnation)
{
	uint64_t vpn = addr >> PAGE_SHIFT, val = 0;
	struct tlb_entry *e = &c->tlb[vpn & (TLB_ENTRIES - 1)];
	rcu_read_lock(c, &m->rcu[RCU_HW]);
	if (READ_ONCE(e->tag) == vpn + 1 && READ_ONCE(e->gen) == READ_ONCE(c->full_flushes))
		val = READ_ONCE(e->val);
	if (!likely(val && !(write && (val & (PT_RW | PT_DIRTY)) != (PT_RW | PT_DIRTY))))
		return hw_access_walk(c, m, addr, write, value, incarnation);
	hw_transfer(m, val, write, value, incarnation);
	rcu_read_unlock(c, &m->rcu[RCU_HW]);
	return 1;
}

/* The same after a fault, which says that the TLB has nothing. */
static inline int hw_access_again(struct cpu *c, struct mm *m, uint64_t addr, int write, uint64_t *value, uint64_t *incarnation)
{
	rcu_read_lock(c, &m->rcu[RCU_HW]);
	return hw_access_walk(c, m, addr, write, value, incarnation);
}

/* ---- VMA lock [PT-003] [PT-006] .. [PT-008] ---- */

static inline struct vma *lock_vma_under_rcu(struct cpu *c, struct mm *m, uint64_t addr)
{
	struct vma *v = NULL;
	rcu_read_lock(c, &m->rcu[RCU_TABLES]);
	for (int turn = 0; turn < 3; turn++) {
		uint32_t seq = smp_load_acquire(&m->set_seq), lo = 0, hi;
		if (seq & 1)
			continue;
		hi = READ_ONCE(m->set_nr);
		while (lo < hi) {
			uint32_t mid = (lo + hi) >> 1;
			if (READ_ONCE(READ_ONCE(m->slots[mid])->vm_end) <= addr)
				lo = mid + 1;
			else
				hi = mid;
		}
		v = lo < READ_ONCE(m->set_nr) ? READ_ONCE(m->slots[lo]) : NULL;
		barrier();
		if (READ_ONCE(m->set_seq) == seq) {
			v = v && READ_ONCE(v->vm_start) <= addr ? v : NULL;
			break;
		}
		v = NULL;
	}
	if (v && READ_ONCE(v->vm_lock_seq) != READ_ONCE(m->mm_lock_seq)) {
		uint32_t refcnt = READ_ONCE(v->vm_refcnt);
		while (refcnt && !(refcnt & 0x40000000) &&
		       !__atomic_compare_exchange_n(&v->vm_refcnt, &refcnt, refcnt + 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
			;
		if (refcnt && !(refcnt & 0x40000000)) {
			/* VMA objects are type-stable: the one that is counted now may be of another mm. */
			if (v->vm_mm != m)
				count(c, C_RECYCLED);
			else if (READ_ONCE(v->vm_lock_seq) != smp_load_acquire(&m->mm_lock_seq) &&
			    READ_ONCE(v->vm_start) <= addr && addr < READ_ONCE(v->vm_end)) {
				rcu_read_unlock(c, &m->rcu[RCU_TABLES]);
				return v;
			}
			atomic_add_return(&v->vm_refcnt, (uint32_t)-1);
		}
	}
	rcu_read_unlock(c, &m->rcu[RCU_TABLES]);
	return NULL;
}

/* ---- the write fault ---- */

static int fault_locked(struct cpu *c, struct mm *m, struct vma *v, uint64_t addr)
{
	struct ptdesc *pmd_table, *table;
	uint32_t missing, pfn;
	uint64_t pmdval, pte = 0, *ptep, *pmdp;
	if (!READ_ONCE(v->writable))
		return -1;
	pmdp = entry_offset(m, addr, PMD_LEVEL, &pmd_table, &missing);
	table = pmdp ? pte_offset_map(c, m, pmdp, &pmdval) : NULL;
	if (table) {
		pte = smp_load_acquire(table_entries(m, table) + geo_index(&m->geo, PTE_LEVEL, addr));
		rcu_read_unlock(c, &m->rcu[RCU_TABLES]);
	} else if (install(c, m, addr)) {
		return -1;
	}
	if (!pte_none(pte) || !READ_ONCE(v->anon_vma))
		return -1;
	pfn = frame_alloc(c, m, addr);
	if (pfn == (uint32_t)NONE32)
		return -1;
	if (!pmdp)
		pmdp = entry_offset(m, addr, PMD_LEVEL, &pmd_table, &missing);
	table = pmdp ? pte_offset_map_lock(c, m, pmdp, &pmdval) : NULL;
	if (table) {
		ptep = table_entries(m, table) + geo_index(&m->geo, PTE_LEVEL, addr);
		if (pte_none(READ_ONCE(*ptep))) {
			atomic_add(&m->rss[c->id].n, 1);
			smp_store_release(ptep, mk_pte(pfn, PT_ANON));
			spin_unlock(&table->lock);
			rcu_read_unlock(c, &m->rcu[RCU_TABLES]);
			return 0;
		}
		count(c, C_LOST);
		spin_unlock(&table->lock);
		rcu_read_unlock(c, &m->rcu[RCU_TABLES]);
	}
	arena_free(c, m->frames, pfn);
	return 0;
}

static __attribute__((noinline)) int fault_and_access(struct cpu *c, struct mm *m, uint64_t addr, int write,
						     uint64_t *value, uint64_t *incarnation)
{
	for (int turn = 0; turn < 1000000; turn++) {
		struct vma *v;
		int rc;
		count(c, C_FAULTS);
		v = lock_vma_under_rcu(c, m, addr);
		if (!v)
			return -1;
		rc = fault_locked(c, m, v, addr);
		atomic_add_return(&v->vm_refcnt, (uint32_t)-1);
		if (rc)
			return rc;
		if (hw_access_again(c, m, addr, write, value, incarnation))
			return 0;
	}
	return -1;
}

static inline int do_access(struct cpu *c, struct mm *m, uint64_t vpn, int write, uint64_t *value, uint64_t *incarnation)
{
	if (vpn >= m->geo.task_size >> PAGE_SHIFT)
		return -1;
	if (likely(hw_access(c, m, vpn << PAGE_SHIFT, write, value, incarnation)))
		return 0;
	return fault_and_access(c, m, vpn << PAGE_SHIFT, write, value, incarnation);
}

/* ---- MADV_DONTNEED [PT-021] [PT-022] ---- */

static inline void gather_range(struct gather *tlb, uint64_t start, uint64_t end)
{
	if (start < tlb->start)
		tlb->start = start;
	if (end > tlb->end)
		tlb->end = end;
}

static void flush_tlb_mm(struct cpu *c, struct mm *m)
{
	count(c, C_FULL_FLUSHES);
	for (uint32_t i = 0; i < m->nr_cpus; i++) {
		atomic_add_return(&m->cpus[i].flush_gen, 1);
		atomic_add_return(&m->cpus[i].full_flushes, 1);
	}
}

static void flush_tlb_range(struct cpu *c, struct mm *m, uint64_t start, uint64_t end, int freed_tables)
{
	uint64_t first = start >> PAGE_SHIFT, last = end >> PAGE_SHIFT;
	if (last - first > FLUSH_CEILING) {
		flush_tlb_mm(c, m);
		return;
	}
	count(c, C_FLUSHES);
	for (uint32_t i = 0; i < m->nr_cpus; i++) {
		struct cpu *target = &m->cpus[i];
		atomic_add_return(&target->flush_gen, 1);
		for (uint64_t vpn = first; vpn < last; vpn++) {
			uint64_t tag = vpn + 1;
			struct tlb_entry *e = &target->tlb[vpn & (TLB_ENTRIES - 1)];
			if (READ_ONCE(e->tag) == tag)
				__atomic_compare_exchange_n(&e->tag, &tag, 0, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
		}
		if (!freed_tables)
			continue;
		for (uint64_t r = pwc_region(m, start); r <= pwc_region(m, end - 1); r++) {
			uint64_t tag = r + 1;
			struct pwc_entry *e = pwc_slot(target, r);
			if (READ_ONCE(e->tag) == tag)
				__atomic_compare_exchange_n(&e->tag, &tag, 0, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
		}
	}
}

/* What memory pressure unmapped and has not flushed yet is flushed before the entries are looked at [PT-040]. */
static inline void flush_tlb_batched_pending(struct cpu *c, struct mm *m)
{
	uint32_t seen = smp_load_acquire(&m->tlb_flush_batched), pending = seen & 0xffff;
	if (likely(pending == seen >> 16))
		return;
	count(c, C_BATCHED_DRAINS);
	flush_tlb_mm(c, m);
	__atomic_compare_exchange_n(&m->tlb_flush_batched, &seen, pending | pending << 16, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

static void zap_table(struct cpu *c, struct mm *m, struct gather *tlb, uint64_t *pmdp, struct ptdesc *pmd_table,
		      struct ptdesc *table, uint64_t addr, uint64_t end)
{
	uint64_t *ptep = table_entries(m, table) + geo_index(&m->geo, PTE_LEVEL, addr), pte;
	int whole = end - addr == 1ull << m->geo.shift[1], detached = 0;
	int64_t rss = 0;
	flush_tlb_batched_pending(c, m);
	for (; addr != end; addr += 1ull << PAGE_SHIFT, ptep++) {
		if (pte_none(READ_ONCE(*ptep)))
			continue;
		pte = xchg(ptep, 0);
		gather_range(tlb, addr, addr + (1ull << PAGE_SHIFT));
		if (pte & PT_SPECIAL)
			continue;
		rss++;
		arena_zapped(c, m->frames, pte_pfn(pte));
		chain_add(m, &tlb->frames, pte_pfn(pte));
	}
	if (rss)
		atomic_add(&m->rss[c->id].n, (uint64_t)-rss);
	if (whole && spin_trylock(c, &pmd_table->lock)) {
		xchg(pmdp, 0);
		WRITE_ONCE(table->detached, 1);
		arena_zapped(c, m->tables, table->index);
		count(c, C_RECLAIMED);
		spin_unlock(&pmd_table->lock);
		count(c, C_FAST);
		detached = 1;
	}
	spin_unlock(&table->lock);
	rcu_read_unlock(c, &m->rcu[RCU_TABLES]);
	if (detached) {
		gather_range(tlb, table->addr, table->addr + (1ull << m->geo.shift[1]));
		tlb->freed_tables = 1;
		table->next = tlb->tables;
		tlb->tables = table->index;
		atomic_add(&m->pgtables_bytes, (uint64_t)-4096);
	}
}

static int do_dontneed(struct cpu *c, struct mm *m, uint64_t first, uint64_t last)
{
	uint64_t addr = first << PAGE_SHIFT, end = last << PAGE_SHIFT, pmdval, next;
	struct gather tlb = { m, c, (uint64_t)-1, 0, 0, NONE32, { 0 } };
	struct vma *v = lock_vma_under_rcu(c, m, addr);
	struct ptdesc *pmd_table, *table;
	uint32_t missing = 0;
	uint64_t *pmdp;
	if (!v || end > READ_ONCE(v->vm_end))
		return -1;
	atomic_add_return(&m->tlb_flush_pending, 1);
	for (; addr < end; addr = next) {
		pmdp = entry_offset(m, addr, PMD_LEVEL, &pmd_table, &missing);
		if (!pmdp) {
			next = geo_addr_end(&m->geo, missing - 1, addr, end);
			continue;
		}
		next = geo_addr_end(&m->geo, PTE_LEVEL, addr, end);
		if (pte_none(smp_load_acquire(pmdp)))
			continue;
		table = pte_offset_map_lock(c, m, pmdp, &pmdval);
		if (table)
			zap_table(c, m, &tlb, pmdp, pmd_table, table, addr, next);
	}
	atomic_add_return(&v->vm_refcnt, (uint32_t)-1);
	if (READ_ONCE(m->tlb_flush_pending) > 1)
		flush_tlb_mm(c, m);
	if (tlb.start < tlb.end)
		flush_tlb_range(c, m, tlb.start, tlb.end, tlb.freed_tables);
	if (tlb.frames.nr) {
		if (!c->frames_next.nr)
			c->frames_next.tail = tlb.frames.tail;
		else
			m->frames->items[tlb.frames.tail].next = c->frames_next.head;
		c->frames_next.head = tlb.frames.head;
		c->frames_next.nr += tlb.frames.nr;
	}
	while (tlb.tables != (uint32_t)NONE32) {
		table = &m->ptdescs[tlb.tables];
		tlb.tables = table->next;
		call_rcu(c, &m->rcu[RCU_TABLES], &table->rcu, table_gp_over);
	}
	atomic_add_return(&m->tlb_flush_pending, (uint64_t)-1);
	return 0;
}

/* ---- what the bench calls ---- */

struct twin { struct mm mm; struct cpu *cpu; struct domain rcu[NR_RCU]; struct arena frames, tables; };

/* A machine of one cpu with one writable VMA over pages [0, pages) and one next to it. NULL: no memory. */
struct twin *twin_make(uint32_t frames, uint32_t tables, uint64_t pages, int membarrier)
{
	struct twin *t = aligned_alloc(128, (sizeof(*t) + 127) & ~127ul);
	struct mm *m;
	uint64_t *entries = mmap(NULL, tables * 4096ul, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!t || entries == MAP_FAILED)
		return NULL;
	memset(t, 0, sizeof(*t));
	m = &t->mm;
	t->cpu = aligned_alloc(128, (sizeof(*t->cpu) + 127) & ~127ul);
	memset(t->cpu, 0, sizeof(*t->cpu));
	t->cpu->counter = t->cpu->counters;
	arena_init(&t->frames, frames);
	arena_init(&t->tables, tables);
	m->geo.levels = LEVELS;
	m->geo.shift[0] = PAGE_SHIFT;
	for (int l = 0; l < LEVELS; l++) {
		m->geo.mask[l] = 511;
		m->geo.shift[l + 1] = m->geo.shift[l] + 9;
	}
	m->geo.task_size = 1ull << m->geo.shift[LEVELS];
	m->frames = &t->frames;
	m->tables = &t->tables;
	m->pages = aligned_alloc(64, frames * sizeof(*m->pages));
	memset(m->pages, 0, frames * sizeof(*m->pages));	/* a frame with pins waits for ever */
	m->ptdescs = calloc(tables, sizeof(*m->ptdescs));
	m->entries = entries;
	m->geo.max_bits = 9;
	m->rcu = t->rcu;
	m->cpus = t->cpu;
	m->nr_cpus = 1;
	m->slots = calloc(2, sizeof(*m->slots));
	for (uint32_t i = 0; i < tables; i++) {
		m->ptdescs[i].index = i;
		m->ptdescs[i].entries = entries + i * 512ul;
	}
	m->pgd = &m->ptdescs[0];
	for (int i = 0; i < NR_RCU; i++) {
		t->rcu[i].gp_seq = t->rcu[i].gp_completed = 1;
		t->rcu[i].cpus = t->cpu;
		t->rcu[i].nr_cpus = 1;
		t->rcu[i].which = i;
		t->rcu[i].membarrier =
			membarrier && !syscall(SYS_membarrier, MEMBARRIER_REGISTER_PRIVATE_EXPEDITED, 0, 0);
		t->cpu->rcu[i].next_tail = &t->cpu->rcu[i].next_head;
	}
	for (int i = 0; i < 2; i++) {
		m->slots[i] = aligned_alloc(64, sizeof(struct vma));
		memset(m->slots[i], 0, sizeof(struct vma));
		m->slots[i]->vm_start = (uint64_t)i * pages << PAGE_SHIFT;
		m->slots[i]->vm_end = (uint64_t)(i + 1) * pages << PAGE_SHIFT;
		m->slots[i]->writable = 1;
		m->slots[i]->anon_vma = i + 1;
		m->slots[i]->vm_mm = m;
		m->slots[i]->vm_refcnt = 1;
	}
	m->mm_lock_seq = m->set_seq = 2;
	m->set_nr = 2;
	return t;
}

enum { MEASURE_RCU, MEASURE_READ, MEASURE_WRITE, MEASURE_CYCLE };

/* The loops of cy/check/measure.pxd. Returns operations that failed; times as `measure` of the engine's Bench. */
uint64_t twin_measure(struct twin *t, int what, uint64_t first, uint64_t pages, uint64_t turns, uint64_t unit,
		      uint64_t *ns, uint64_t *fault_ns)
{
	struct cpu *c = t->cpu;
	struct mm *m = &t->mm;
	uint64_t begin = thread_cpu_ns(), failed = 0, value = 1, incarnation = 0, at, mark;
	*fault_ns = 0;
	if (what == MEASURE_RCU)
		for (uint64_t i = 0; i < turns; i++) {
			rcu_read_lock(c, &m->rcu[RCU_TABLES]);
			rcu_read_unlock(c, &m->rcu[RCU_TABLES]);
		}
	else if (what == MEASURE_READ)
		for (uint64_t i = 0; i < turns; i++)
			failed += do_access(c, m, first + ((i * 40503) & (pages - 1)), 0, &value, &incarnation) != 0;
	else if (what == MEASURE_WRITE)
		for (uint64_t i = 0; i < turns; i++)
			failed += do_access(c, m, first + i, 1, &value, &incarnation) != 0;
	else {
		for (uint64_t i = 0; i < turns; i++) {
			mark = thread_cpu_ns();
			for (at = first; at < first + pages; at++)
				failed += do_access(c, m, at, 1, &value, &incarnation) != 0;
			*fault_ns += thread_cpu_ns() - mark;
			for (at = first; at < first + pages; at += unit) {
				failed += do_dontneed(c, m, at, at + unit) != 0;
				poll(c, m, GP_BATCH);
			}
		}
		while (c->frames_next.nr + c->frames_wait.nr + c->rcu[0].nr_next + c->rcu[0].nr_wait + c->rcu[1].nr_next +
		       c->rcu[1].nr_wait)
			poll(c, m, 0);
	}
	*ns = thread_cpu_ns() - begin - *fault_ns;
	return failed;
}
