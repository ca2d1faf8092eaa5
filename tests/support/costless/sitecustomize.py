"""For processes of tests, by PYTHONPATH: the networks of ``upscale`` cost nothing but remember, in workers too."""

import os
import sys

if "KSNET_TEST_STEP_S" in os.environ:
    from runners import FadingRunner

    from ksnet_deploy.upscale.networks import NetworkFile

    FadingRunner.delay_s = float(os.environ["KSNET_TEST_STEP_S"])
    NetworkFile.open = lambda _network, size, io, *_, **__: FadingRunner(size, io)  # type: ignore[method-assign]

if "KSNET_TEST_VERSION" in os.environ and "ksnet_deploy" not in " ".join(sys.orig_argv):  # of workers alone
    from ksnet_deploy.base import version

    _found = version.package_version
    version.package_version = lambda name: os.environ["KSNET_TEST_VERSION"] if name == "av" else _found(name)
