"""The examples of the README run, one after another."""

import contextlib
import io
import os
import re
import unittest

from support import ROOT


class Readme(unittest.TestCase):
    def test_examples(self):
        examples = re.findall(r"```python\n(.*?)```", (ROOT / "python/README.md").read_text(), re.DOTALL)
        self.assertEqual(len(examples), 3)
        folder, names, output = os.getcwd(), {}, io.StringIO()
        os.chdir(ROOT)
        try:
            with contextlib.redirect_stdout(output):
                for example in examples:
                    exec(example, names)
        finally:
            os.chdir(folder)
        self.assertIn("bits a byte, context of any length", output.getvalue())
        first, *_, last = map(float, output.getvalue().splitlines()[-3:])
        self.assertLess(last, first)


if __name__ == "__main__":
    unittest.main()
