// checker answers questions about notes and proofs with golang.org/x/mod/sumdb, which evrt has no part in.
//
// Every line of standard input is a question, its words separated by spaces; every line of standard
// output is the answer: "ok", or why not.
//
//	note VKEY FILE                          is the note in FILE signed by VKEY?
//	record SIZE ROOT INDEX LEAF HASH...     has the tree this leaf there?
//	tree SIZE ROOT OLDSIZE OLDROOT HASH...  has the tree grown from the old one?
//	proof VKEY FILE ENTRY                   does the tlog-proof in FILE prove the entry in the file ENTRY?
package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	questions := bufio.NewScanner(os.Stdin)
	questions.Buffer(nil, 1<<24)
	for questions.Scan() {
		words := strings.Fields(questions.Text())
		if err := answer(words[0], words[1:]); err != nil {
			fmt.Println(strings.ReplaceAll(err.Error(), "\n", " "))
		} else {
			fmt.Println("ok")
		}
	}
}

func answer(question string, words []string) error {
	switch question {
	case "note":
		_, err := open(words[0], words[1])
		return err
	case "record":
		size, root, err := sized(words[0], words[1])
		if err != nil {
			return err
		}
		index, leaf, err := sized(words[2], words[3])
		if err != nil {
			return err
		}
		path, err := hashes(words[4:])
		if err != nil {
			return err
		}
		return tlog.CheckRecord(path, size, root, index, leaf)
	case "tree":
		size, root, err := sized(words[0], words[1])
		if err != nil {
			return err
		}
		oldSize, oldRoot, err := sized(words[2], words[3])
		if err != nil {
			return err
		}
		path, err := hashes(words[4:])
		if err != nil {
			return err
		}
		return tlog.CheckTree(path, size, root, oldSize, oldRoot)
	case "proof":
		return proof(words[0], words[1], words[2])
	}
	return errors.New("no such question: " + question)
}

func open(vkey, file string) (string, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	return openNote(vkey, content)
}

func openNote(vkey string, content []byte) (string, error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return "", err
	}
	opened, err := note.Open(content, note.VerifierList(verifier))
	if err != nil {
		return "", err
	}
	return opened.Text, nil
}

func sized(number, hash string) (int64, tlog.Hash, error) {
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return 0, tlog.Hash{}, err
	}
	parsed, err := tlog.ParseHash(hash)
	return n, parsed, err
}

func hashes(words []string) ([]tlog.Hash, error) {
	var all []tlog.Hash
	for _, word := range words {
		hash, err := tlog.ParseHash(word)
		if err != nil {
			return nil, err
		}
		all = append(all, hash)
	}
	return all, nil
}

func proof(vkey, file, entry string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	leaf, err := os.ReadFile(entry)
	if err != nil {
		return err
	}
	head, checkpoint, _ := strings.Cut(string(content), "\n\n")
	lines := strings.Split(head, "\n")
	if len(lines) < 2 || lines[0] != "c2sp.org/tlog-proof@v1" || !strings.HasPrefix(lines[1], "index ") {
		return errors.New("not a tlog-proof")
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[1], "index "), 10, 64)
	if err != nil {
		return err
	}
	path, err := hashes(lines[2:])
	if err != nil {
		return err
	}
	text, err := openNote(vkey, []byte(checkpoint))
	if err != nil {
		return err
	}
	said := strings.Split(text, "\n")
	size, root, err := sized(said[1], said[2])
	if err != nil {
		return err
	}
	return tlog.CheckRecord(path, size, root, index, tlog.RecordHash(leaf))
}
