"""Statistics to plans.

`criteria` has how dispensable channels are, one criterion a file; `plans` has which of them a member goes without; `counts` has
how many of each site that will be. Imports nothing by itself, so that the names of the criteria are known without torch.
"""
