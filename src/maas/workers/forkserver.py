"""A fork server: one process that has imported an engine and forks a model process in milliseconds.

Run as `python -m maas.workers.forkserver FD MODULE…`. It has one thread and runs no operation of the engine, for a
fork after one would hang; it answers `Fork` and `Kill`, reports `Exited`, and leaves when its socket is closed.
Its children die with it, by the kernel's hand. Model processes are ended by the gateway's word or its death only:
SIGINT and SIGTERM, which a terminal or a service manager sends to the whole group, are ignored here and there.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import selectors
import signal
import socket
import sys
from contextlib import suppress
from importlib import import_module
from io import TextIOWrapper
from typing import NoReturn

from maas.workers.channel import close_all, receive, send
from maas.workers.frames import Exited, Fork, Forked, ForkFailed, Kill

_PR_SET_PDEATHSIG = 1
_STANDARD = (1, 2)  # descriptors of output and error
_OPEN_FILES = 1024
_OUT_OF_MEMORY_SCORE = 800  # of 1000: when memory is short, a model process goes before the gateway


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    assert isinstance(sys.stdout, TextIOWrapper), "the gateway gives us one"
    sys.stdout.reconfigure(
        line_buffering=True
    )  # no line is lost when a process is killed, or printed twice after a fork
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    _die_with_parent()
    # The gateway's limit is for its connections.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_OPEN_FILES, most), most))
    for module in sys.argv[2:]:
        # A model process will say that it is missing, in an error that reaches the operator.
        with suppress(ModuleNotFoundError):
            import_module(module)
    gc.freeze()  # what is imported stays shared: no collection in a child touches its pages
    try:
        with suppress(ConnectionError):  # the gateway may be gone in the middle of a report
            _serve(control)
    finally:
        signal.set_wakeup_fd(-1)


def _serve(control: socket.socket) -> None:
    children: set[int] = set()
    wakeup, wakeup_end = socket.socketpair()
    for end in (wakeup, wakeup_end):
        end.setblocking(False)
    signal.set_wakeup_fd(wakeup_end.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        selector.register(wakeup, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if wakeup in ready:
                wakeup.recv(4096)
                _reap(control, children)
            if control in ready and not _obey(control, children):
                return


def _obey(control: socket.socket, children: set[int]) -> bool:
    """Do what the gateway says next; False when it is gone."""
    try:
        received = receive(control)
    except OSError:
        return False
    if received is None:
        return False
    frame, descriptors = received
    if isinstance(frame, Fork):
        try:
            pid = _fork(frame.entry, descriptors, control)
        except OSError as error:
            send(control, ForkFailed(error.strerror or type(error).__name__))
        else:
            children.add(pid)
            send(control, Forked(pid))
    elif isinstance(frame, Kill) and frame.pid in children:
        os.kill(frame.pid, signal.SIGKILL)
    close_all(descriptors)
    return True


def _reap(control: socket.socket, children: set[int]) -> None:
    while children:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(
                ended.si_pid, signal.SIGKILL
            )  # what the model itself has started; the group's id is still its own
        pid, status = os.waitpid(ended.si_pid, 0)
        children.discard(pid)
        send(control, Exited(pid, os.waitstatus_to_exitcode(status)))


def _fork(entry: str, descriptors: list[int], control: socket.socket) -> int:
    pid = os.fork()
    if pid == 0:
        _become(entry, descriptors, control)
    return pid


def _become(entry: str, descriptors: list[int], control: socket.socket) -> NoReturn:
    """Run `serve` of the module `entry` on the socket, printing into the pipe where there is one; never return to the fork
    server's code."""
    code = 1
    try:
        control.close()
        _print_into(descriptors[1:])
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        _die_with_parent()
        _offer_to_out_of_memory_killer()
        import_module(entry).serve(socket.socket(fileno=descriptors[0]))
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _print_into(pipe: list[int]) -> None:
    """Standard output and error go there, where it is given."""
    for descriptor in pipe:
        for standard in _STANDARD:
            os.dup2(descriptor, standard)
        os.close(descriptor)


def _die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies; a parent that died before the call is noticed too."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _offer_to_out_of_memory_killer() -> None:
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(str(_OUT_OF_MEMORY_SCORE))
    except OSError:
        pass  # not granted in every container; it is a preference, not a promise


if __name__ == "__main__":
    main()
