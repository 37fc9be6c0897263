"""The stand-in for the terraform binary, as it runs; tests.fakes.fake_terraform says what it can do.

It is started thousands of times in a test run, so its modules import little: `json` alone is half of what they cost.
Standard library only, because the product starts it with an environment that knows nothing of ours.
"""
