"""Which names are taken: by the languages that code is exported in, and by their libraries."""

from __future__ import annotations

import keyword
import sys

_CPP = """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t
    class compl const const_cast constexpr continue decltype default delete do double dynamic_cast
    else enum explicit export extern false float for friend goto if inline int long mutable
    namespace new noexcept not not_eq nullptr operator or or_eq private protected public register
    reinterpret_cast restrict return short signed sizeof static static_assert static_cast struct
    switch template this thread_local throw true try typedef typeid typename union unsigned using
    virtual void volatile wchar_t while xor xor_eq
"""
_KOTLIN = "fun in interface is null object package super typealias typeof val var when as"
_SWIFT = """
    any associatedtype defer deinit extension fallthrough fileprivate func guard import init inout
    internal let nil open precedencegroup protocol repeat rethrows self subscript throws where
"""
_JAVA = """
    abstract assert boolean byte extends final finally implements import instanceof native package
    strictfp synchronized throws transient
"""
_MACROS = "assert errno linux stderr stdin stdout unix"
"""Of C: they are no member's name either."""

WORDS = frozenset(f"{_CPP} {_KOTLIN} {_SWIFT} {_JAVA} {_MACROS}".split()) | {
    *(word.lower() for word in keyword.kwlist),
    *("edgekit", "std"),
}
"""What means something in C, C++, Java, Kotlin, Swift or Python, and namespaces of the wrappers."""

_C_MATH = """
    acos acosh acospi asin asinh asinpi atan atan2 atan2pi atanh atanpi canonicalize cbrt ceil
    compoundn copysign cos cosh cospi drem erf erfc exp exp10 exp10m1 exp2 exp2m1 expm1 fabs
    fdim finite floor fma fmax fmaximum fmaxmag fmin fminimum fminmag fmod frexp fromfp fromfpx
    gamma getpayload hypot ilogb j0 j1 jn ldexp lgamma llogb llrint llround log log10 log10p1
    log1p log2 log2p1 logb logp1 lrint lround modf nan nearbyint nextafter nextdown nexttoward
    nextup pow pown powr remainder remquo rint rootn round roundeven rsqrt scalb scalbln scalbn
    setpayload setpayloadsig significand sin sincos sinh sinpi sqrt tan tanh tanpi tgamma
    totalorder totalordermag trunc ufromfp ufromfpx y0 y1 yn
"""
"""Each has a sibling for ``float`` and one for ``long double``."""

_C = """
    a64l abort abs access acct alarm alloca arc4random asctime asprintf atexit atof atoi atol
    atoll basename bcmp bcopy brk bsearch btowc bzero calloc chdir chown chroot clearenv
    clearerr clock clone close closefrom confstr crypt ctermid ctime cuserid daddl daemon
    daylight ddivl dfmal difftime div dmull dprintf drand48 dsqrtl dsubl dup dup2 dup3
    duplocale dysize eaccess ecvt endusershell environ erand48 euidaccess execl execle execlp
    execv execve execveat execvp execvpe exit faccessat fadd faddl fchdir fchown fchownat
    fclose fcloseall fcvt fdatasync fdiv fdivl fdopen feof ferror fexecve fflush ffma ffmal ffs
    ffsl ffsll fgetc fgetpos fgets fgetwc fgetws fileno flockfile fmemopen fmul fmull fopen
    fopencookie fork fpathconf fprintf fputc fputs fputwc fputws fread free freelocale freopen
    fscanf fseek fseeko fsetpos fsqrt fsqrtl fsub fsubl fsync ftell ftello ftruncate
    ftrylockfile funlockfile fwide fwprintf fwrite fwscanf gcvt getc getchar getcpu getcwd
    getdate getdelim getdomainname getdtablesize getegid getentropy getenv geteuid getgid
    getgroups gethostid gethostname getline getloadavg getlogin getopt getpagesize getpass
    getpgid getpgrp getpid getppid getpt getresgid getresuid getsid getsubopt gettid getuid
    getusershell getw getwc getwchar getwd gmtime grantpt gsignal index initstate isalnum
    isalpha isascii isatty isblank iscanonical iscntrl isctype isdigit iseqsig isgraph isinff
    isinfl islower isnanf isnanl isprint ispunct issignaling isspace isupper iswalnum iswalpha
    iswblank iswcntrl iswctype iswdigit iswgraph iswlower iswprint iswpunct iswspace iswupper
    iswxdigit isxdigit iszero itimerspec jrand48 kill killpg l64a labs lchown lcong48 lconv
    ldiv link linkat llabs lldiv localeconv localtime lockf lrand48 lseek malloc mblen mbrlen
    mbrtowc mbsinit mbsnrtowcs mbsrtowcs mbstowcs mbtowc memalignment memccpy memchr memcmp
    memcpy memfrob memmem memmove mempcpy memrchr memset mkdtemp mkostemp mkostemps mkstemp
    mkstemps mktemp mktime mrand48 nanosleep newlocale nice nrand48 obstack optarg opterr
    optind optopt pathconf pause pclose perror pipe pipe2 popen pread printf profil pselect
    psiginfo psignal ptsname putc putchar putenv puts putw putwc putwchar pwrite qecvt qfcvt
    qgcvt qsort rand random rawmemchr read readlink readlinkat realloc reallocarray realpath
    remove rename renameat renameat2 revoke rewind rindex rmdir rpmatch sbrk scanf seed48
    select setbuf setbuffer setdomainname setegid setenv seteuid setgid sethostid sethostname
    setlinebuf setlocale setlogin setns setpgid setpgrp setregid setresgid setresuid setreuid
    setsid setstate setuid setusershell setvbuf sigaction sigaddset sigaltstack sigandset
    sigblock sigcontext sigdelset sigemptyset sigevent sigfillset siggetmask sighold sigignore
    siginterrupt sigisemptyset sigismember signal signgam sigorset sigpause sigpending
    sigprocmask sigqueue sigrelse sigreturn sigset sigsetmask sigstack sigsuspend sigtimedwait
    sigval sigwait sigwaitinfo sleep snprintf sprintf srand srand48 srandom sscanf ssignal
    stpcpy stpncpy strcasecmp strcasestr strcat strchr strchrnul strcmp strcoll strcpy strcspn
    strdup strerror strfromd strfromf strfroml strfry strftime strlcat strlcpy strlen
    strncasecmp strncat strncmp strncpy strndup strnlen strpbrk strptime strrchr strsep
    strsignal strspn strstr strtod strtof strtok strtol strtold strtoll strtoq strtoul strtoull
    strtouq strverscmp strxfrm swab swprintf swscanf symlink symlinkat sync syncfs syscall
    sysconf system tcgetpgrp tcsetpgrp tempnam tgkill time timegm timelocal timespec timeval
    timex timezone tm tmpfile tmpnam toascii tolower toupper towctrans towlower towupper
    truncate ttyname ttyslot tzname tzset uabs ualarm uint ulabs ullabs ulong ungetc ungetwc
    unlink unlinkat unlockpt unsetenv unshare uselocale ushort usleep valloc vasprintf vdprintf
    vfork vfprintf vfscanf vfwprintf vfwscanf vhangup vprintf vscanf vsnprintf vsprintf vsscanf
    vswprintf vswscanf vwprintf vwscanf wcpcpy wcpncpy wcrtomb wcscasecmp wcscat wcschr
    wcschrnul wcscmp wcscoll wcscpy wcscspn wcsdup wcsftime wcslcat wcslcpy wcslen wcsncasecmp
    wcsncat wcsncmp wcsncpy wcsnlen wcsnrtombs wcspbrk wcsrchr wcsrtombs wcsspn wcsstr wcstod
    wcstof wcstok wcstol wcstold wcstoll wcstombs wcstoq wcstoul wcstoull wcstouq wcswcs
    wcswidth wcsxfrm wctob wctomb wctrans wctype wcwidth wmemchr wmemcmp wmemcpy wmemmove
    wmempcpy wmemset wprintf write wscanf
"""
"""What glibc has in the global namespace where ``<signal.h>``, ``<unistd.h>`` and the headers that
the C++ wrapper is made of are included: names of one word."""

_C_HEADERS = """
    aio assert cpio complex ctype dirent dlfcn endian errno fcntl features fenv float fmtmsg fnmatch
    ftw glob grp iconv inttypes iso646 langinfo libgen limits locale malloc math memory monetary
    mqueue ndbm netdb nl_types poll pthread pwd regex resolv sched search semaphore setjmp signal
    spawn stdalign stdarg stdatomic stdbit stdbool stdckdint stddef stdint stdio stdlib stdnoreturn
    string strings stropts syslog tar termios tgmath threads time trace uchar ulimit unistd utime
    utmpx wchar wctype wordexp
"""
"""Of the C standard, POSIX and glibc: a header of that name in an app's folder would hide them."""

_PACKAGES = "ai_edge_litert numpy onnxruntime tensorflow tflite_runtime"
"""Of Python: a wheel would be installed over them."""

_OLD_MODULES = "asynchat asyncore distutils imp smtpd"
"""Of Python's own library, as far back as 3.8."""

NAMES = (
    WORDS
    | frozenset(f"{_C} {_C_HEADERS} {_PACKAGES} {_OLD_MODULES}".split())
    | {f"{name}{kind}" for name in _C_MATH.split() for kind in ("", "f", "l")}
    | sys.stdlib_module_names
)
"""What a model cannot be called, besides: it becomes a namespace, a header and a Python package."""
