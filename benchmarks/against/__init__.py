"""evrt beside others who keep a program's steps on disk: the same work, one run, one machine.

``make against`` sets up what is missing, measures, prints a table, and writes figures and chart.

    plan        which systems, which measures, and why a cell is empty
    install     a venv for each rival, Restate's server from npm
    rounds      workers started in turn, samples kept as they come
    figures     samples become medians, spreads and ratios
    table       figures for people: on a terminal, as text, as Markdown
    chart       figures as an SVG
    systems     the workers: one module for each system, run in that system's venv
"""
