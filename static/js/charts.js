// Charts from data: <div data-chart="id of a json_script block">. The block holds {kind, unit, stacked, labels, series: [{name, values}]}.
// Money comes as integer nano-dollars and is divided only here, to be drawn.
(() => {
  const drawn = new Map();
  const css = (name) => resolved(`var(--gh-${name})`);

  // light-dark() in a custom property is not computed until it colours something.
  function resolved(colour) {
    const probe = document.createElement("i");
    probe.style.color = colour;
    document.body.append(probe);
    const value = getComputedStyle(probe).color;
    probe.remove();
    return value;
  }

  const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
  const short = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });
  const dollars = (digits) => new Intl.NumberFormat("en-US", { style: "currency", currency: "USD", minimumFractionDigits: digits, maximumFractionDigits: digits });
  const UNITS = {
    usd: { scale: 1e-9, axis: (v) => (v >= 10000 ? `$${short.format(v)}` : dollars(v !== 0 && v < 10 ? 2 : 0).format(v)), text: (v) => dollars(v !== 0 && v < 1 ? 4 : 2).format(v) },
    count: { scale: 1, axis: (v) => short.format(v), text: (v) => whole.format(v) },
    tokens: { scale: 1, axis: (v) => short.format(v), text: (v) => short.format(v) },
    ms: { scale: 1, axis: (v) => (v >= 1000 ? `${v / 1000} s` : `${v} ms`), text: (v) => (v >= 1000 ? `${(v / 1000).toFixed(2)} s` : `${whole.format(v)} ms`) },
  };

  const escape = (text) => Object.assign(document.createElement("i"), { textContent: text }).innerHTML;

  function tooltip(unit, stacked) {
    return (points) => {
      const row = (marker, name, value, weight = 400) =>
        `<div style="display:flex;gap:1.5rem;justify-content:space-between;font-weight:${weight}"><span>${marker}${escape(name)}</span><span style="font-variant-numeric:tabular-nums">${value}</span></div>`;
      const rows = points.filter((p) => p.value).reverse().map((p) => row(p.marker, p.seriesName, unit.text(p.value)));
      const sum = points.reduce((total, p) => total + (p.value || 0), 0);
      if (stacked && points.length > 1) rows.push(row("", "Total", unit.text(sum), 600));
      return `<div style="font-weight:600;margin-bottom:4px">${escape(points[0].axisValueLabel)}</div>${rows.join("") || "nothing"}`;
    };
  }

  function seriesOf(chart, unit) {
    const stacked = chart.stacked ?? chart.kind !== "line";
    return chart.series.map((series, index) => ({
      name: series.name,
      type: chart.kind === "bar" ? "bar" : "line",
      stack: stacked ? "all" : undefined,
      data: series.values.map((value) => (value === null ? null : value * unit.scale)),
      color: css(`chart-${series.colour ?? (index % 8) + 1}`),
      barMaxWidth: 28,
      barCategoryGap: "32%",
      showSymbol: false,
      lineStyle: { width: chart.kind === "area" ? 1 : 2 },
      areaStyle: chart.kind === "area" ? { opacity: 0.45 } : undefined,
      itemStyle: chart.kind === "bar" ? { borderColor: css("surface"), borderWidth: chart.labels.length > 60 ? 0 : 0.5 } : undefined,
      emphasis: { focus: "series", blurScope: "coordinateSystem" },
    }));
  }

  function options(chart) {
    const unit = UNITS[chart.unit];
    const ink = css("ink-2");
    const line = css("line");
    const many = chart.series.length > 1;
    return {
      animationDuration: 250,
      aria: { enabled: false },
      textStyle: { fontFamily: getComputedStyle(document.body).fontFamily },
      grid: { left: 4, right: 8, top: 12, bottom: many ? 36 : 4, containLabel: true },
      legend: many ? { type: "scroll", bottom: 0, left: 0, icon: "roundRect", itemWidth: 9, itemHeight: 9, itemGap: 16, textStyle: { color: ink, fontSize: 12 }, pageTextStyle: { color: ink }, pageIconColor: ink } : undefined,
      tooltip: {
        trigger: "axis",
        axisPointer: { type: chart.kind === "bar" ? "shadow" : "line", shadowStyle: { color: css("ink"), opacity: 0.05 }, lineStyle: { color: line } },
        backgroundColor: css("raised"),
        borderColor: line,
        textStyle: { color: css("ink"), fontSize: 12 },
        confine: true,
        formatter: tooltip(unit, chart.kind !== "line"),
      },
      xAxis: { type: "category", data: chart.labels, boundaryGap: chart.kind === "bar", axisTick: { show: false }, axisLine: { lineStyle: { color: line } }, axisLabel: { color: ink, fontSize: 11.5, hideOverlap: true, margin: 10 } },
      yAxis: { type: "value", splitNumber: 4, axisLabel: { color: ink, fontSize: 11.5, formatter: unit.axis }, splitLine: { lineStyle: { color: line } } },
      series: seriesOf(chart, unit),
    };
  }

  function draw() {
    for (const [element, picture] of drawn) {
      if (element.isConnected) continue;
      picture.dispose();
      drawn.delete(element);
    }
    for (const element of document.querySelectorAll("[data-chart]")) {
      if (!element.clientWidth) continue; // shown as a table at the moment
      const chart = JSON.parse(document.getElementById(element.dataset.chart).textContent);
      if (!drawn.has(element)) {
        drawn.set(element, window.echarts.init(element, null, { renderer: "svg" }));
        sizes.observe(element);
      }
      drawn.get(element).setOption(options(chart), true);
      drawn.get(element).resize();
    }
  }

  const sizes = new ResizeObserver((entries) => entries.forEach(({ target }) => target.clientWidth && drawn.get(target)?.resize()));
  document.addEventListener("gatehouse:theme", draw);
  document.addEventListener("gatehouse:charts", draw);
  draw();
})();
