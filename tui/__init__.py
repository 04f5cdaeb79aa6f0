"""The Textual console: `gpuferry console`. It knows nothing but the appliance's REST API.

command.py      the subcommand; profile.py: which appliance, remembered
calls.py        one API call, as it is sent and as a command to copy; appliance.py: sends them, follows the event stream
app.py          the application: tabs, keys, themes, connection; palette.py: the command palette
panes/          one tab each; pane.py, listing.py, pool_map.py: what panes are made of
dialogs/        modal screens: confirmation, forms, help, details
themes.py, words.py, show.py    colours; the words of the product; numbers and times as people read them
"""
