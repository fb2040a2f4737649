"""`python -m mqttproxy`: the same as the command `mqttproxy`."""

from mqttproxy.cli import main

if __name__ == "__main__":
    main()
