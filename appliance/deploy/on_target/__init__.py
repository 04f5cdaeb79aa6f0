"""What runs on a machine that gpuferry is deployed to, with nothing but Python 3.9 and its standard library.

The appliance sends this package as one zip file (`installer.pyz`) over SSH, a copy stays beside what it installed and
carries out later upgrades and the removal. It imports nothing of gpuferry outside this folder.

    __main__.py    the command line, and the request that comes on standard input
    ed25519.py     RFC 8032: does this signature belong to these bytes and this key?
    manifest.py    what a bundle holds and which of it a machine needs
    layout.py      where everything is
    fitness.py     is this machine fit?
    foresee.py     what an installation would change, with nothing changed
    unpack.py      wheels into a folder, launchers beside it
    accounts.py    the system user
    services.py    systemd units, or the supervisor where there is no systemd
    supervisor.py  keeps one service running
    install.py     the transaction: verify, unpack, switch, start, confirm, or back to what was
    uninstall.py   nothing stays
    upgrade.py     an upgrade ordered by the appliance
"""
