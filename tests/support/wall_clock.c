/* A wall clock that a test sets while a program runs: LD_PRELOAD this, and write the seconds by which it is wrong, as
 * eight bytes, to the file that WALL_CLOCK names. Only the wall clock moves; CLOCK_MONOTONIC and timers do not.
 *
 * No header is included and no start file linked, so that the smallest compiler builds it (`-nostdlib -shared`).
 */
struct timespec { long seconds, nanoseconds; };
struct timeval { long seconds, microseconds; };

char *getenv(const char *name);
int open(const char *path, int flags, ...);
void *mmap(void *address, unsigned long length, int protection, int flags, int file, long offset);
void *dlsym(void *handle, const char *name);

#define NEXT ((void *)-1) /* RTLD_NEXT */
#define REALTIME 0
#define REALTIME_COARSE 5
#define TAI 11

static long none;
static volatile long *wrong;
static int (*real)(int clock, struct timespec *now);

static void begin(void) {
  char *path = getenv("WALL_CLOCK");
  int file = path ? open(path, 0) : -1;
  void *page = file < 0 ? (void *)-1 : mmap(0, sizeof(long), 1, 1, file, 0); /* PROT_READ, MAP_SHARED */
  real = (int (*)(int, struct timespec *))dlsym(NEXT, "clock_gettime");
  wrong = page == (void *)-1 ? &none : (volatile long *)page;
}

int clock_gettime(int clock, struct timespec *now) {
  int result;
  if (!wrong)
    begin();
  result = real(clock, now);
  if (!result && (clock == REALTIME || clock == REALTIME_COARSE || clock == TAI))
    now->seconds += *wrong;
  return result;
}

int gettimeofday(struct timeval *now, void *zone) {
  struct timespec precise;
  (void)zone;
  clock_gettime(REALTIME, &precise);
  now->seconds = precise.seconds;
  now->microseconds = precise.nanoseconds / 1000;
  return 0;
}

long time(long *now) {
  struct timespec precise;
  clock_gettime(REALTIME, &precise);
  if (now)
    *now = precise.seconds;
  return precise.seconds;
}

int timespec_get(struct timespec *now, int base) {
  return base == 1 && !clock_gettime(REALTIME, now) ? base : 0; /* TIME_UTC */
}
