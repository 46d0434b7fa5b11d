"""The drawings of the documentation: each is described once, here, and written as SVG and for diagrams.net.

    python docs/drawings     write docs/img/*.svg and *.drawio again; ``make docs`` does it too

A test compares the files with what this package writes, and looks whether any text or arrow is in the way of another.
To change a drawing, change its module. Somebody who has only diagrams.net can edit the ``.drawio`` file and ask for the
same change here.
"""
