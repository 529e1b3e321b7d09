"""A `Progress` that remembers what it was told."""


class Heard:
    def __init__(self):
        self.steps, self.parts, self.notes, self.lines = [], [], [], []

    def step(self, name, unit=""):
        self.steps.append(name)

    def part(self, done, total, note=""):
        self.parts.append((done, total))
        self.notes.append(note)

    def say(self, line):
        self.lines.append(line)
