package p

import "errors"

func fail() error { return errors.New("no") }

func plain() {
	fail() // want `found \(mark\)`
}

func sameLine() {
	fail() //nolint:mark // the reason
}

func nextStatement() {
	//nolint:mark // the reason
	fail()
	fail() // want `found \(mark\)`
}

// wholeFunction is documented.
//
//nolint:mark // the reason
func wholeFunction() {
	fail()
	if true {
		fail()
	}
}

func onlyItsLine() { //nolint:mark // the reason // want `there is nothing for mark to ignore here \(nolintlint\)`
	fail() // want `found \(mark\)`
}

func otherName() {
	fail() //nolint:other // the reason // want `found \(mark\)` `there is nothing for other to ignore here`
}

func several() {
	fail() //nolint:other,mark // the reason // want `there is nothing for other to ignore here`
}

func careless() {
	fail() /* want `give the reason` */ //nolint:mark
	fail() /* want `found` `name what is ignored` */ //nolint // everything
	fail() /* want `found` `no check has the name "nobody"` */ //nolint:nobody // the reason
}
