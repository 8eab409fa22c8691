"""The declared types are those of the module."""

import ast
import inspect
import unittest

import reformer_burn
from support import ROOT


def public(owner):
    return {name for name in vars(owner) if not name.startswith("_")}


def declared(tree):
    """Names that a module or a class declares, without imported ones."""
    named = (ast.ClassDef, ast.FunctionDef)
    return {node.name for node in tree.body if isinstance(node, named) and not node.name.startswith("_")}


class Stubs(unittest.TestCase):
    def setUp(self):
        self.tree = ast.parse((ROOT / "python/reformer_burn.pyi").read_text())

    def test_names(self):
        # The module itself holds the compiled one.
        self.assertEqual(public(reformer_burn) - {"reformer_burn"}, declared(self.tree))
        for node in self.tree.body:
            if isinstance(node, ast.ClassDef):
                self.assertEqual(public(getattr(reformer_burn, node.name)), declared(node))

    def test_arguments(self):
        for owner in [node for node in self.tree.body if isinstance(node, ast.ClassDef)]:
            for method in owner.body:
                is_method = isinstance(method, ast.FunctionDef) and not method.name.startswith("_")
                if not is_method or "property" in map(ast.unparse, method.decorator_list):
                    continue
                found = inspect.signature(getattr(getattr(reformer_burn, owner.name), method.name))
                arguments = method.args.posonlyargs + method.args.args + method.args.kwonlyargs
                self.assertEqual(list(found.parameters), [argument.arg for argument in arguments])

    def test_settings_of_attention(self):
        [layer] = [node for node in self.tree.body if getattr(node, "name", "") == "LshAttention"]
        [new] = [node for node in layer.body if getattr(node, "name", "") == "__new__"]
        config = reformer_burn.LshAttention(8, 2).config
        names = [*config["heads"], *config["lsh"], "hash_seed", "cls", "seed"]
        self.assertEqual(sorted(argument.arg for argument in new.args.args + new.args.kwonlyargs), sorted(names))
        for name in set(names) - {"cls"}:
            self.assertIn(name, reformer_burn.LshAttention.__doc__)

    def test_everything_is_documented(self):
        for name in public(reformer_burn) - {"reformer_burn"}:
            owner = getattr(reformer_burn, name)
            self.assertTrue(owner.__doc__, name)
            for member in public(owner) if inspect.isclass(owner) else []:
                self.assertTrue(getattr(owner, member).__doc__, member)


if __name__ == "__main__":
    unittest.main()
