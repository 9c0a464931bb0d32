"""What a run says on the screen: a line per validation with the time left, and the results at the end."""

from time import perf_counter

from rich.console import Console
from rich.table import Table

CONVENTIONS = {"unmasked": "not masked (RecBole's)", "masked": "masked (the literature's)"}


class Screen:
    """Writes to the terminal unless ``quiet``; ``folder`` is where the run lies."""

    def __init__(self, folder, console=None, quiet=False):
        self.folder, self.console = folder, console or Console(highlight=False, quiet=quiet)
        if not self.console.is_terminal:
            self.console.width = 160  # a log has no width; a table should not be folded

    def begin(self, trainer, train_data):
        """Say what is trained on what."""
        self.started, self.first_epoch = perf_counter(), trainer.start_epoch
        size = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
        stage = f" ({trainer.config['train_stage']})" if "train_stage" in trainer.config else ""
        where = f"resumed after epoch {trainer.start_epoch - 1}, " if trainer.start_epoch else ""
        self.console.print(
            f"[bold]{trainer.config['model']}[/]{stage} on {trainer.config['dataset']}: {size:,} weights, "
            f"{len(train_data._dataset):,} {trainer.config['train_rows'] or 'prefix'} rows, {where}in {self.folder}"
        )

    def epoch(self, trainer, epoch):
        """One line: loss and its terms, the validation's metric, whether it is the best so far, and the time left."""
        entry, metric = trainer.curve[-1], trainer.valid_metric
        spent = perf_counter() - self.started
        left = spent / (epoch + 1 - self.first_epoch) * (trainer.epochs - epoch - 1)
        found = "not validated"
        if metric in entry:
            patience = f"{trainer.cur_step} of {trainer.stopping_step + 1} without a better one"
            found = f"{metric} {entry[metric]:.4f}  {patience if trainer.cur_step else 'the best so far'}"
        self.console.print(
            f"  epoch {epoch:>3}  loss {entry['loss']:.4f}{_terms(entry)}  {found:<44} "
            f"{entry['seconds']:.1f} s an epoch, at most {_clock(left)} left"
        )

    def interrupted(self, folder):
        """Say where the best weights are and how to go on."""
        self.console.print(
            f"\nStopped. The best weights so far are in {folder / 'checkpoint'}; go on with\n"
            f"  python run_recbole_llm.py --resume={self.folder}"
        )

    def warn(self, sentence):
        """Say what a reader of the results must know, if there is anything."""
        if sentence:
            self.console.print(f"[bold yellow]Warning:[/] {sentence}")

    def results(self, outcomes, folder):
        """The test metrics of every outcome under both conventions, and where the report is."""
        table = Table(title="Test part, every item ranked")
        table.add_column("model")
        table.add_column("history")
        names = list(outcomes[0].test.unmasked)
        for name in names:
            table.add_column(name, justify="right", no_wrap=True)
        for outcome in outcomes:
            for kind, convention in CONVENTIONS.items():
                found = getattr(outcome.test, kind)
                if found:
                    table.add_row(outcome.name, convention, *(f"{found[name]:.4f}" for name in names))
        self.console.print(table)
        self.console.print(f"Report: {folder / 'report.md'}")


def _terms(entry):
    told = ", ".join(f"{name} {value:.4f}" for name, value in entry.get("terms", {}).items())
    return f" ({told})" if told else ""


def _clock(seconds):
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
