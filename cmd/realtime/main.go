// Command realtime serves, publishes and listens: realtime broadcasting from the command line.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

// Exit codes, as about says them.
const (
	exitOK     = 0
	exitFailed = 1 // the command ran, and what it was for did not happen
	exitUsage  = 2 // the command line makes no sense
)

const about = `Realtime broadcasting: one event, every client.

Exit codes:

    0  it is done
    1  it could not be done, and stderr says why
    2  the command line is wrong`

// commands is the command line: a file for each.
type commands struct {
	Serve   serve         `cmd:"" help:"Run the server."`
	Publish publish       `cmd:"" help:"Send one event to a channel."`
	Listen  listen        `cmd:"" help:"Print the events of channels as they come."`
	Bench   benchCommand  `cmd:"" help:"Put load on a server, and check that it loses nothing."`
	Config  configCommand `cmd:"" help:"Check a configuration file, or ask what it means."`
	Version version       `cmd:"" help:"Print the version."`
}

// terminal is what a command may write to.
type terminal struct{ stdout, stderr io.Writer }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// exit is how kong leaves after --help.
type exit int

// run is main without a process: it returns the exit code. It ends when ctx does.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (code int) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case exit:
			code = int(p)
		default:
			panic(p)
		}
	}()
	if len(args) == 0 {
		run(ctx, []string{"--help"}, stderr, stderr)
		return exitUsage
	}
	if args[0] == "help" { // "help serve"
		args = append(slices.Clone(args[1:]), "--help")
	}
	parsed, err := parser(stdout, stderr).Parse(args)
	if err != nil {
		fmt.Fprintf(stderr, "realtime: %v\n\"realtime help\" and \"realtime COMMAND --help\" say what there is.\n", err)
		return exitUsage
	}
	parsed.BindTo(ctx, (*context.Context)(nil))
	if err := parsed.Run(terminal{stdout, stderr}); err != nil {
		// Errors of the library begin with the same word.
		fmt.Fprintf(stderr, "realtime: %s\n", strings.TrimPrefix(err.Error(), "realtime: "))
		if errors.As(err, new(usageError)) {
			return exitUsage
		}
		return exitFailed
	}
	return exitOK
}

func parser(stdout, stderr io.Writer) *kong.Kong {
	k, err := kong.New(new(commands), kong.Name("realtime"), kong.Description(about),
		kong.Writers(stdout, stderr), kong.Exit(func(code int) { panic(exit(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	if err != nil {
		panic(err) // the commands above are wrong
	}
	k.Model.HelpFlag.Help = "Show this help."
	return k
}

// usageError is a mistake in the command line that the parser cannot see.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }
