# A folder of the running host: where it cannot be made, as in an image that is being built, booting makes it.
systemd-sysusers tcpstall.conf || :
systemd-tmpfiles --create tcpstall.conf || :
# $1: how many are installed afterwards. Whether it runs is for the host's presets to say, as with any rpm.
if [ "$1" -eq 1 ] && command -v systemctl >/dev/null; then
	systemctl --no-reload preset tcpstall.service || :
fi
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || :
fi
