from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from gateway_project.bench import estimate, figures, peer, processes, table, translation
from gateway_project.bench.figures import BenchFailed
from gateway_project.bench.stage import stage
from gateway_project.embedded.errors import StartError


class Command(BaseCommand):
    help = "Measures the gateway on this machine, with everything on, and prints a table. Takes a few minutes; no test."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--runs", type=int, default=3)
        parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
        parser.add_argument("--no-start", action="store_true", help="leave out the start times")
        parser.add_argument("--no-estimate", action="store_true", help="leave out the error of the estimate of input tokens")
        parser.add_argument("--peer", help="base URL (…/v1) of another gateway on this machine, for the same load")
        parser.add_argument("--peer-key", default="none")
        parser.add_argument("--peer-model", default="bench")
        parser.add_argument(
            "--peer-header",
            action="append",
            default=[],
            metavar="'NAME: VALUE'",
            help="sent to the peer; {upstream} stands for the URL of the benchmark's provider",
        )
        parser.add_argument("--peer-pid", type=int, help="the peer's process, to compare its CPU time with ours")

    def handle(self, *args: Any, **options: Any) -> None:
        processes.stay_off_the_measured_processor()
        try:
            with stage() as set_up:
                rows = figures.measure(set_up, runs=options["runs"], seconds=options["seconds"])
                rows += figures.admission_cost(set_up, runs=options["runs"])
                rows += translation.figures(runs=options["runs"])
                if options["peer"]:
                    rows += peer.compare(set_up, _peer(options), runs=options["runs"], seconds=options["seconds"])
            if not options["no_start"]:
                rows += figures.start_times(runs=options["runs"])
        except (BenchFailed, StartError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(table.render(rows, machine=processes.machine()))
        if not options["no_estimate"]:
            self.stdout.write("\n" + estimate.report())


def _peer(options: dict[str, Any]) -> peer.Peer:
    return peer.Peer(
        url=options["peer"],
        key=options["peer_key"],
        model=options["peer_model"],
        headers=tuple(options["peer_header"]),
        pid=options["peer_pid"],
    )
