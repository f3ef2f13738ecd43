"""From statistics to plans.

`criteria` ranks channels, one criterion a file. `plans` selects the channels that a member loses. `counts` predicts how
many channels of each site that will be. The package imports nothing, so that the names of the criteria are known without
torch.
"""
