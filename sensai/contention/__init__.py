"""Why trainings at once grind to a halt, and what works, measured on the machine at hand.

`job` is what is trained and scored, as files; `naive` and `engine` are two ways to do it, by the yardstick of `work`; `process`
is one process of either; `measuring` starts them, takes time and memory, and makes the table.
"""
