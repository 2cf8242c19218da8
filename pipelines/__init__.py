import sys

from buckler.state import exits

if sys.argv[0] == "-m":  # Python looks for the stage that it will run, whose imports take seconds
    exits.end_at_interrupt()
