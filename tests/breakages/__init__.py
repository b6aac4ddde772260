"""Does the suite see anything? Each breakage spoils the product on purpose, in one place, and the tests must go red.

``make test-breakages`` tries them one by one, on a copy of the tree. ``catalogue`` lists them; ``docs/breakages.md`` is
the score.
"""
