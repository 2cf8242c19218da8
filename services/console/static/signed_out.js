// On the sign-in page: the next person at this browser must not see the answers of the one before.

import { forget } from "./history.js";

forget();
