"""Names of the last release: ``mnist_cnn.images`` is ``mnist_cnn.digits.normalise``, and so on.

Saved configurations name classes by them. `mnist_cnn.__path__` ends here, so that they are found
where they were.
"""
