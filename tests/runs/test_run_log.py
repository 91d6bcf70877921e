"""The log of a run, which grows, is the one file that is not written whole."""

import logging

import pytest

from mnv2_tasks.runs.run_folder import start_log


@pytest.fixture
def package_log():
    log = logging.getLogger("mnv2_tasks")
    before = list(log.handlers)
    yield log
    for handler in [handler for handler in log.handlers if handler not in before]:
        log.removeHandler(handler)
        handler.close()


class Full:
    """A disk without room."""

    def write(self, text):
        raise OSError(28, "No space left on device")

    def flush(self): ...
    def close(self): ...


def test_a_run_goes_on_without_its_log_where_the_disk_is_full_and_says_so_once(package_log, tmp_path, capfd):
    start_log(tmp_path / "train.log")
    package_log.info("one")
    (handler,) = [h for h in package_log.handlers if isinstance(h, logging.FileHandler)]
    handler.stream.close()
    handler.stream = Full()
    package_log.info("two")
    package_log.info("three")
    said = capfd.readouterr().err
    assert said.count("train.log: the log ends here") == 1 and "No space left" in said and "Traceback" not in said
    assert (tmp_path / "train.log").read_text(encoding="utf-8").endswith(" one\n")
