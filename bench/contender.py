"""Processes that are measured: they load, say that they are ready, and make a step for
each line that they get, so that several can take turns on one machine."""
import json
import os
import subprocess
import sys
import tempfile
import time

UNIT = 1 if sys.platform == "darwin" else 1024           # of ru_maxrss


class Failed(Exception):
    pass


class Contender:
    """A command whose first line of JSON says that it is ready."""

    def __init__(self, command):
        self.command, self.log, self.peak, self.rows = command, tempfile.TemporaryFile(), 0, []
        self.began = time.monotonic()
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.log)
        self.ready = self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            self.close()
            self.log.seek(0)
            raise Failed("%s\n%s" % (" ".join(self.command),
                                     self.log.read().decode(errors="replace")[-2000:]))
        return json.loads(line)

    def step(self):
        try:
            self.process.stdin.write(b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass                         # it has ended, and read says why
        row = self.read()
        row["since_start"] = time.monotonic() - self.began
        self.rows.append(row)
        return row

    def close(self):
        if self.process.returncode is None:
            try:
                self.process.stdin.close()
            except BrokenPipeError:
                pass
            self.process.stdout.close()
            _, status, usage = os.wait4(self.process.pid, 0)
            self.process.returncode = os.waitstatus_to_exitcode(status)
            self.peak = usage.ru_maxrss * UNIT
        return self.peak


def take_turns(commands, steps):
    """The rows and the peak memory of each command: a first step, then `steps` in turns."""
    running = {}
    try:
        for name, command in commands.items():
            running[name] = Contender(command)
            running[name].step()
        for _ in range(steps):
            for one in running.values():
                time.sleep(0.2)                  # threads of the one before fall asleep
                one.step()
    finally:
        for one in running.values():
            one.close()
    return running


def output(command, env=None):
    """The JSON that a command prints, and its peak memory."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log,
                                   env=dict(os.environ, **(env or {})))
        text = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            raise Failed("%s\n%s" % (" ".join(command),
                                     log.read().decode(errors="replace")[-2000:]))
    return json.loads(text), usage.ru_maxrss * UNIT
