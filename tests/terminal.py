"""peft data label on a pseudo-terminal: keys, undo, pages, sizes, signals, and the terminal
afterwards.  Usage: tests/terminal.py PEFT"""
import fcntl, json, os, pty, resource, select, shutil, signal, struct, sys, tempfile, termios
import time

PEFT = os.path.abspath(sys.argv[1])
DIR = tempfile.mkdtemp()
ROWS = ["What a day", "Not \x1b[31mred\x1b]0;t\x07", "\u65e5\u672c\u8a9e" * 20, "a b\nc", "end"]
failed = 0


def check(ok, what):
    global failed
    if not ok:
        failed += 1
        print("not true:", what)


def shell(terminal, tell, command):
    """Does what a shell does: runs the command as a job of its own, and tells its number and
    in the end how it ended."""
    os.setsid()
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
    for fd in range(3):
        os.dup2(terminal, fd)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    job = os.fork()
    if not job:
        os.setpgid(0, 0)
        os.tcsetpgrp(0, os.getpid())
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        os.execv(PEFT, command)
    os.write(tell, b"%-16d" % job)
    status = 0x7f
    while status & 0xff == 0x7f:    # stopped
        status = os.waitpid(job, os.WUNTRACED)[1]
        os.write(tell, b"%-16d" % status)
    os._exit(0)


class Session:
    """The command on a terminal of its own; `said` is all that it wrote."""

    def __init__(self, out, *options, columns=80, lines=24):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        self.path = os.path.join(DIR, out)
        self.said = b""
        self.master, self.slave = pty.openpty()
        self.size(columns, lines)
        self.before = termios.tcgetattr(self.slave)
        command = [PEFT, "data", "label", FILE, "--labels", "good,bad,goofy", "--out",
                   self.path, *options]
        self.told, tell = os.pipe()
        if not os.fork():
            shell(self.slave, tell, command)
        os.close(tell)
        self.pid = int(os.read(self.told, 16))
        self.wait(b"2mu undo")

    def size(self, columns, lines):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def wait(self, text=None, seconds=20):
        """Reads until there is that text, or nothing more for a while."""
        new, end = b"", time.time() + seconds
        while time.time() < end and not (text and text in new):
            if not select.select([self.master], [], [], 0.3)[0]:
                if text is None:
                    break
                continue
            try:
                piece = os.read(self.master, 65536)
            except OSError:
                break
            if not piece:
                break
            new += piece
        self.said += new
        check(text is None or text in new, "%r is shown, not %r" % (text, new[-300:]))
        return new

    def press(self, keys, text=b"2mu undo"):
        os.write(self.master, keys)
        return self.wait(text)

    def end(self, status):
        self.wait()
        found = self.status()
        check(found == status, "status %r, expected %r" % (found, status))
        check(termios.tcgetattr(self.slave) == self.before, "the terminal is as before")
        check(self.said.count(b"\x1b[?1049h") == self.said.count(b"\x1b[?1049l"), "left the screen")
        os.close(self.master)
        os.close(self.slave)

    def status(self):
        return int(os.read(self.told, 16))

    def labels(self):
        with open(self.path, encoding="utf-8") as f:
            return [json.loads(line)["label"] for line in f]


FILE = os.path.join(DIR, "rows.jsonl")
with open(FILE, "w", encoding="utf-8") as f:
    for row in ROWS:
        f.write(json.dumps({"text": row}) + "\n")

# Keys, digits, arrows, an unknown key, undo; every decision is on disk at once.
s = Session("keys.jsonl", "--by", "ann")
check(termios.tcgetattr(s.slave)[3] & termios.ICANON == 0, "raw while it runs")
s.press(b"g", b"1 of 5")
check(s.labels() == ["good"], "written at once")
shown = s.press(b"2", b"2 of 5")
check(s.labels() == ["good", "bad"], "a digit")
s.press(b"\x1b[C", b"1 skipped")
s.press(b"\x1b[D", b"2 of 5")
s.press(b"x", b"\a")
s.press(b"o", b"3 of 5")
s.press(b"\x7f", b"2 of 5")
check(s.labels() == ["good", "bad"], "taken back")
s.press(b"q", None)
s.end(0)
check(b"\x1b[31m" not in s.said and b"\x1b]0;" not in s.said, "rows cannot command the terminal")

# It goes on where it was; the decision of the session before can be taken back.
s = Session("keys.jsonl")
check(b"2 of 5" in s.said, "goes on")
s.press(b"u", b"1 of 5")
check(s.labels() == ["good"], "of the session before")
s.press(b"b", b"2 of 5")

# Killed: nothing is lost.
os.kill(s.pid, signal.SIGKILL)
check(s.status() == signal.SIGKILL, "killed")
check(s.labels() == ["good", "bad"], "all there")

# Ctrl-C, then the end of all rows, from which there is a way back too.
s = Session("keys.jsonl")
s.press(b"\x03", None)
s.end(130 << 8)
s = Session("keys.jsonl")
s.press(b"ggg", b"Every row")
s.press(b"u", b"4 of 5")
s.press(b"b", b"Every row")
s.press(b"q", None)
s.end(0)
check(s.labels() == ["good", "bad", "good", "good", "bad"], "all five")

# Signals that end.
for number in (signal.SIGTERM, signal.SIGHUP):
    s = Session("signal%d.jsonl" % number)
    os.kill(s.pid, number)
    s.end(130 << 8)
s = Session("quit.jsonl")
s.press(b"\x1c", None)
s.end(signal.SIGQUIT)

# Narrow and low, wide characters wrapped at columns; another size is drawn at once.
s = Session("narrow.jsonl", columns=20, lines=12)
s.press(b"gg", b"2 of 5")
s.wait()                                # the row below its head comes after
lines = s.said.decode("utf-8", "replace").split("\r\n")
check(any(line == ROWS[2][:10] for line in lines), "wrapped at ten wide characters")
check(b"(Tab: " in s.said, "more pages")
s.press(b"\t", b"(Tab: ")
s.size(60, 24)
s.wait(b"2mu undo")
s.press(b"q", None)
s.end(0)

# Ctrl-Z leaves the terminal as it was until the process goes on.
s = Session("stop.jsonl")
os.write(s.master, b"\x1a")
s.wait(b"\x1b[?1049l")
check(s.status() == 0x7f | signal.SIGTSTP << 8, "stopped")
check(termios.tcgetattr(s.slave) == s.before, "as before while it is stopped")
os.kill(s.pid, signal.SIGCONT)
s.wait(b"2mu undo")
s.press(b"g", b"1 of 5")
s.press(b"q", None)
s.end(0)

shutil.rmtree(DIR)
print("terminal: %s" % ("%d failed" % failed if failed else "in order"))
sys.exit(failed > 0)
