# One libtorrent peer, for benchmarks: loads the torrent, says "ready", waits for a line with the addresses of all peers (ADDRESS or
# ADDRESS:PORT), connects to them, and says "done" when it has every piece (each checked by its SHA-1). Then it seeds until its
# input ends.
# Usage: libtorrent-peer.py TORRENT FOLDER ADDRESS PORT [SETTINGS-AS-JSON]
import json
import sys
import time

import libtorrent

torrent, folder, address, port = sys.argv[1:5]
settings = {
    "listen_interfaces": f"{address}:{port}",
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_outgoing_utp": False,
    "enable_incoming_utp": False,
}
# Versions differ in what they know; what this one does not know it would refuse.
known = libtorrent.default_settings()
for name, value in json.loads(sys.argv[5] if len(sys.argv) > 5 else "{}").items():
    if name in known:
        settings[name] = value
session = libtorrent.session(settings)
handle = session.add_torrent({"ti": libtorrent.torrent_info(torrent), "save_path": folder})
while handle.status().state in (
    libtorrent.torrent_status.checking_files,
    libtorrent.torrent_status.checking_resume_data,
):
    time.sleep(0.02)
print("ready", flush=True)
for peer in sys.stdin.readline().split():
    if peer != address:
        host, _, at = peer.partition(":")
        handle.connect_peer((host, int(at or port)))
while not handle.status().is_seeding:
    time.sleep(0.02)
print("done", flush=True)
sys.stdin.read()
