import { render } from "preact";
import "./style.css";
import { start } from "./feed";
import { startClock } from "./state";
import { pageLanguage } from "./text";
import { App } from "./view/app";

document.documentElement.lang = pageLanguage;
render(<App />, document.getElementById("page")!);
startClock();
start();
