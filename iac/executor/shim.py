"""The process between us and Terraform: `python -I -S shim.py DIRECTORY FD`, one for each assignment, standard library only.

Terraform must not notice when the program that started it ends, and its exit code must not be lost then. So this process
starts it, waits for it, writes down how it ended, and ends everything that it left running. It hears orders on a
socket (see iac.executor.shimming) for as long as somebody is there to give them; then it sees to the end what runs.

    shim.pid        this process: once it has ended, what is written here is the last word
    terraform.pid   what runs, or ran last: pid, start time, boot, and the command's name; written before anybody is told
    ended.json      how the last command ended: durable before anybody is told
    lease           until when (seconds of CLOCK_BOOTTIME) a plan may run; past it, or when it was taken away, it is
                    stopped. Never a file: for ever

Frames both ways: four bytes of length, then what marshal makes of a dict; both ends are the same interpreter. An order to
run comes with two descriptors, stdout and stderr. Every import here is paid for by every task, so it is the C modules below
the usual ones that are taken: json, socket, signal and ctypes would cost more than the rest of the interpreter's start.
"""

from __future__ import annotations

import _ctypes
import _signal as signal  # type: ignore[import-not-found]
import marshal
import os
import select
import sys
import time
from _socket import CMSG_LEN, SCM_RIGHTS, SOL_SOCKET, socket

LOOK_EVERY = 1.0
"""Seconds between two looks at the lease, while one counts."""
LEASE_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
KILL_WITHIN = 5.0
APART = 0.5
PR_SET_CHILD_SUBREAPER = 36
OOM_SCORE = "/proc/self/oom_score_adj"
NICER = 10
"""Terraform is so much less urgent than the program that has to send heartbeats meanwhile."""
INT = 4
LENGTH = 4
IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE)
"""What a terminal, a container or a service manager sends to everybody: whom it is meant for tells us by our orders."""


class Shim:
    """One command at a time."""

    def __init__(self, directory: str, orders: socket) -> None:
        self.directory = directory
        self.orders: socket | None = orders
        self.received = bytearray()
        self.descriptors: list[int] = []
        self.pid = 0
        self.began: dict[str, int | None] = {}
        self.label = ""
        self.number = 0
        self.signals: list[int] = []
        self.swept: set[int] = set()
        self.oom_counter, self.oom_before = "", 0
        self.had_lease = False
        self.grace = self.second = 0.0
        self.climb_at = float("inf")
        self.woken, wake = os.pipe()
        for end in (self.woken, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in IGNORED:
            signal.signal(number, signal.SIG_IGN)

    def run(self) -> None:
        """Until nobody gives orders and nothing runs."""
        own = {"pid": os.getpid(), "start_time": start_time(os.getpid()), "boot": boot()}
        write(os.path.join(self.directory, "shim.pid"), own, durable=False)
        self.tell({"ready": adopt_orphans()})
        while self.orders is not None or self.pid:
            waiting = [self.woken] if self.orders is None else [self.woken, self.orders.fileno()]
            ready, _, _ = select.select(waiting, [], [], self.patience())
            if self.woken in ready:
                drain(self.woken)
            if self.orders is not None and self.orders.fileno() in ready:
                self.hear(self.orders)
            self.reap()
            self.keep_to_the_lease()

    def patience(self) -> float | None:
        return LOOK_EVERY if self.pid and (self.leased() or self.climb_at < float("inf")) else None

    # Orders

    def hear(self, orders: socket) -> None:
        try:
            data, ancillary, _, _ = orders.recvmsg(64 * 1024, CMSG_LEN(2 * INT))
        except OSError:
            data, ancillary = b"", []
        for level, kind, numbers in ancillary:
            if (level, kind) == (SOL_SOCKET, SCM_RIGHTS):
                self.descriptors += memoryview(numbers[: len(numbers) - len(numbers) % INT]).cast("i")
        if not data:
            self.orders = None
            orders.close()
            return
        self.received += data
        while len(self.received) >= LENGTH:
            end = LENGTH + int.from_bytes(self.received[:LENGTH], "big")
            if len(self.received) < end:
                return
            body = bytes(self.received[LENGTH:end])
            del self.received[:end]
            self.obey(marshal.loads(body))  # noqa: S302 - from the one who started us

    def obey(self, order: dict) -> None:  # type: ignore[type-arg]
        if "signal" in order:
            self.signal(order["signal"])
        elif "kill" in order:
            self.kill_all()
        else:
            self.start(order)

    def start(self, order: dict) -> None:  # type: ignore[type-arg]
        out, err = self.descriptors[:2]
        del self.descriptors[:2]
        self.label, self.number, self.signals, self.swept = order["label"], order["number"], [], set()
        self.grace, self.second, self.climb_at = order["grace"], order["second"], float("inf")
        self.oom_counter = order["oom_counter"]
        self.oom_before = oom_kills(self.oom_counter)
        put(OOM_SCORE, order["oom_scores"][0])
        try:
            self.pid = spawn(order, out, err)
        except OSError as error:
            self.tell({"number": self.number, "failed": error.errno, "what": error.filename or order["argv"][0]})
            return
        finally:
            os.close(out)
            os.close(err)
        started = start_time(self.pid)
        record = {"pid": self.pid, "start_time": started, "boot": boot(), "label": self.label, "number": self.number}
        write(os.path.join(self.directory, "terraform.pid"), record, durable=False)
        self.began = {"pid": self.pid, "start_time": started}
        self.tell({"number": self.number, **self.began})

    def signal(self, number: int) -> None:
        # Not reaped yet, so the pid is still its own.
        if self.pid:
            self.signals.append(number)
            os.kill(self.pid, number)

    def tell(self, message: dict) -> None:  # type: ignore[type-arg]
        if self.orders is None:
            return
        body = marshal.dumps(message)
        try:
            self.orders.sendall(len(body).to_bytes(LENGTH, "big") + body)
        except OSError:
            self.orders = None

    # The end of a command

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.pid:
                self.pid = 0
                self.over(os.waitstatus_to_exitcode(status))

    def over(self, code: int) -> None:
        ended = {"number": self.number, "label": self.label, "exit_code": code, "signals": self.signals}
        ended["oom_kills"] = max(0, oom_kills(self.oom_counter) - self.oom_before)
        # Only what an apply came to is worth a disk's time; the rest is done again.
        write(os.path.join(self.directory, "ended.json"), ended, durable=self.label == "apply")
        self.kill_all()
        self.tell({**ended, **self.began, "swept": len(self.swept)})

    def kill_all(self) -> None:
        """SIGKILL for everything that came from us, however far it went; `swept` are those besides Terraform."""
        until = time.monotonic() + KILL_WITHIN
        if signal.SIGKILL not in self.signals:
            self.signal(signal.SIGKILL)
        if not may_have_children(os.getpid()):
            return
        while (left := descendants(os.getpid())) and time.monotonic() < until:
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self.swept |= left - {self.pid}
            self.collect(left)

    def collect(self, dying: set[int]) -> None:
        """Reaps what has died, but not Terraform itself: its end is told by `reap`."""
        for pid in dying - {self.pid}:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                continue
        if self.pid in dying:
            # It is a zombie soon, and a zombie is nobody's harm.
            dying.discard(self.pid)
        select.select([], [], [], 0.002)

    # The lease

    def leased(self) -> bool:
        self.had_lease |= os.path.exists(os.path.join(self.directory, "lease"))
        return self.had_lease

    def keep_to_the_lease(self) -> None:
        """The dead man's handle: nobody prolongs it any more, so somebody else may have the task."""
        if not self.pid:
            return
        now = time.clock_gettime(LEASE_CLOCK)
        if self.climb_at == float("inf"):
            if now > self.lease():
                self.signal(signal.SIGTERM)
                self.climb_at = now + max(self.grace, APART)
        elif now >= self.climb_at:
            if self.signals.count(signal.SIGTERM) < 2:
                self.signal(signal.SIGTERM)
                self.climb_at = now + self.second
            else:
                self.kill_all()

    def lease(self) -> float:
        try:
            with open(os.path.join(self.directory, "lease"), encoding="ascii") as file:
                return float(file.read() or "inf")
        except (OSError, ValueError):
            return float("-inf" if self.had_lease else "inf")


def spawn(order: dict, out: int, err: int) -> int:  # type: ignore[type-arg]
    """The pid of the command, in a session of its own. Raises OSError with what the child could not do."""
    told, tells = os.pipe()
    pid = os.fork()
    if pid == 0:
        become(order, out, err, tells)
    os.close(tells)
    with os.fdopen(told, "rb") as file:
        failure = file.read()
    if failure:
        os.waitpid(pid, 0)
        number, what = marshal.loads(failure)  # noqa: S302 - from our own child
        raise OSError(number, os.strerror(number), what)
    return pid


def become(order: dict, out: int, err: int, tells: int) -> None:  # type: ignore[type-arg]
    """In the child: never returns."""
    what = order["cwd"]
    try:
        os.setsid()
        be_modest(order["oom_scores"][1])
        for number in (*IGNORED, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        os.chdir(order["cwd"])
        what = order["argv"][0]
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (out, 1), (err, 2)):
            os.dup2(source, target)
        os.execvpe(order["argv"][0], order["argv"], order["env"])  # noqa: S606 - a list, and no shell
    except BaseException as error:  # nothing of this process may go on
        os.write(tells, marshal.dumps((getattr(error, "errno", None) or 1, what)))
    os._exit(127)


def be_modest(oom_score: int) -> None:
    """For the command about to be run: others come first. What is refused is done without."""
    put(OOM_SCORE, oom_score)
    # Where sessions share the processor among themselves, it is the session's own niceness that counts.
    put("/proc/self/autogroup", os.nice(NICER))


def put(path: str, value: int) -> None:
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(str(value))
    except OSError:
        return


def oom_kills(counter: str) -> int:
    """How many processes the kernel has killed so far because memory had run out, as this file of its own says."""
    try:
        with open(counter, encoding="ascii") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("oom_kill ")), 0)
    except (OSError, ValueError):
        return 0


def adopt_orphans() -> bool:
    """Whether what loses its parent below us becomes our child, and nothing can slip away."""
    try:
        prctl = _ctypes.dlsym(_ctypes.dlopen(None, 0), "prctl")  # type: ignore[arg-type]
        return bool(_ctypes.call_cdeclfunction(prctl, (PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)) == 0)
    except (OSError, AttributeError):
        return False


def descendants(root: int) -> set[int]:
    """All living processes below this one. Zombies are not living."""
    parents: dict[int, list[int]] = {}
    try:
        names = os.listdir("/proc")
    except OSError:
        return set()
    for name in names:
        fields = stat(int(name)) if name.isdigit() else []
        if fields and fields[0] not in "ZX":
            parents.setdefault(int(fields[1]), []).append(int(name))
    found, unseen = set[int](), [root]
    while unseen:
        for child in parents.get(unseen.pop(), []):
            found.add(child)
            unseen.append(child)
    return found


def may_have_children(pid: int) -> bool:
    """Sooner told than by looking at every process; where the kernel does not tell, there may be some."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return bool(file.read())
    except OSError:
        return True


def stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the command's name, which may have anything in it."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


def start_time(pid: int) -> int | None:
    fields = stat(pid)
    return int(fields[19]) if len(fields) > 19 else None


def boot() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def write(path: str, content: dict, *, durable: bool) -> None:  # type: ignore[type-arg]
    """Atomically. A full disk must not end us: whoever looks finds that nothing is known."""
    draft = path + ".new"
    try:
        with open(draft, "w", encoding="ascii") as file:
            file.write(as_json(content))
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError:
        return  # nor is there anywhere to say so: our own log is on that disk


def as_json(value: object) -> str:
    """Of numbers, plain words, None, and what is made of these."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{as_json(key)}: {as_json(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_json, value)) + "]"
    return "null" if value is None else f'"{value}"' if isinstance(value, str) else str(int(str(value)))


def drain(fd: int) -> None:
    try:
        while os.read(fd, 4096):
            pass
    except BlockingIOError:
        return


def main() -> None:
    os.umask(0o077)
    given = int(sys.argv[2])
    # The lowest number that is free: a program with a thousand connections gives us one that select does not take. Nor is
    # a duplicate inherited: whoever has it could give us orders.
    descriptor = os.dup(given)
    os.close(given)
    Shim(sys.argv[1], socket(fileno=descriptor)).run()
    os._exit(0)  # at once: somebody waits, and there is nothing to put in order


if __name__ == "__main__":
    main()
