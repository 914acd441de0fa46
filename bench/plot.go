package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// panel is a plot of milliseconds a step, both axes logarithmic.
type panel struct {
	title, axis string // axis is what grows to the right
	series      []series
}

// series is a line; all series of a panel have their points at the same x.
type series struct {
	name   string
	points []point
}

// point is a time in milliseconds at a size; both are above 0.
type point struct{ x, ms float64 }

// Sizes of the plot in pixels: of a panel's frame, and of the margins about it.
const (
	frameWidth, frameHeight             = 340, 300
	marginLeft, marginTop, marginRight  = 64, 34, 78
	marginBottom                        = 48
	panelWidth, panelHeight             = marginLeft + frameWidth + marginRight, marginTop + frameHeight + marginBottom
	decadeHeadroom                      = 1.25 // of the largest time, above it
	foreground, gridColour, frameColour = "#333", "#ddd", "#888"
	fontStyle                           = `font-family="sans-serif" font-size="12"`
)

var colours = []string{"#0072b2", "#d55e00", "#009e73"} // which colour-blind readers tell apart

// plot is an SVG of panels side by side, with one scale of times for all.
func plot(panels []panel) string {
	low, high := math.Inf(1), 0.0
	for _, p := range panels {
		for _, s := range p.series {
			for _, at := range s.points {
				low, high = min(low, at.ms), max(high, at.ms)
			}
		}
	}
	low, high = low/decadeHeadroom, high*decadeHeadroom
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" %s fill="%s">`+"\n",
		panelWidth*len(panels), panelHeight, fontStyle, foreground)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/>`+"\n")
	for i, p := range panels {
		fmt.Fprintf(&b, `<g transform="translate(%d,%d)">`+"\n", i*panelWidth+marginLeft, marginTop)
		p.draw(&b, low, high)
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// draw draws a panel with the upper left corner of its frame at 0, 0.
func (p panel) draw(b *strings.Builder, low, high float64) {
	at := p.series[0].points
	x := logScale(at[0].x, at[len(at)-1].x, 16, frameWidth-16)
	y := logScale(low, high, frameHeight, 0)
	text := func(x, y float64, anchor, s string) {
		fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`+"\n", x, y, anchor, html.EscapeString(s))
	}
	line := func(x1, y1, x2, y2 float64) {
		fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>`+"\n", x1, y1, x2, y2, gridColour)
	}
	for _, tick := range ticks(low, high) {
		line(0, y(tick), frameWidth, y(tick))
		text(-6, y(tick)+4, "end", fmt.Sprint(tick))
	}
	for _, q := range at {
		line(x(q.x), 0, x(q.x), frameHeight)
		text(x(q.x), frameHeight+17, "middle", fmt.Sprint(q.x))
	}
	fmt.Fprintf(b, `<rect width="%d" height="%d" fill="none" stroke="%s"/>`+"\n", frameWidth, frameHeight, frameColour)
	text(frameWidth/2, -12, "middle", p.title)
	text(frameWidth/2, frameHeight+38, "middle", p.axis)
	fmt.Fprintf(b, `<text transform="translate(-46,%d) rotate(-90)" text-anchor="middle">milliseconds a step</text>`+"\n", frameHeight/2)
	for i, s := range p.series {
		colour := colours[i%len(colours)]
		var path []string
		for _, q := range s.points {
			path = append(path, fmt.Sprintf("%.1f,%.1f", x(q.x), y(q.ms)))
			fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"/>`+"\n", x(q.x), y(q.ms), colour)
		}
		fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(path, " "), colour)
		last := s.points[len(s.points)-1]
		fmt.Fprintf(b, `<text x="%.1f" y="%.1f" fill="%s">%s</text>`+"\n", x(last.x)+22, y(last.ms)+4, colour, html.EscapeString(s.name))
	}
}

// logScale maps from..to, both above 0, to pixels.
func logScale(from, to, first, last float64) func(float64) float64 {
	return func(v float64) float64 { return first + (last-first)*math.Log(v/from)/math.Log(to/from) }
}

// ticks are 1, 2 and 5 times the powers of ten in low..high.
func ticks(low, high float64) []float64 {
	var list []float64
	for power := math.Floor(math.Log10(low)); power <= math.Log10(high); power++ {
		for _, digit := range []float64{1, 2, 5} {
			if v := digit * math.Pow(10, power); v >= low && v <= high {
				list = append(list, v)
			}
		}
	}
	return list
}
